"""What goes through the pipeline that builds a provider's request."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from durable_llm.contract.config import ModelSpecOnWire

from ..litellm_setup import FIXED_ARGUMENTS


@dataclass(frozen=True)
class ProviderRequest:
    """The request to one provider. Each step of `build_request` takes one and returns one.

    Attributes:
        spec: Which model is asked, and how.
        provider: litellm's name of its provider.
        messages: The conversation, in OpenAI's shape; the Responses API has it among the parameters.
        parameters: litellm's other arguments; they hold the API key.
    """

    spec: ModelSpecOnWire
    provider: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> str:
        """The provider's own name of the model."""
        return self.spec.name.removeprefix(f"{self.provider}/").removeprefix("responses/")

    @property
    def choices(self) -> int:
        """How many choices the spec asks for."""
        asked = self.spec.extra_params.get("n")
        return asked if isinstance(asked, int) else 1

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for `litellm.acompletion`, or for `litellm.aresponses` where the spec asks by that API."""
        if self.spec.responses_api:
            return {"model": f"{self.provider}/{self.model}", **self.parameters, **FIXED_ARGUMENTS}
        return {"model": self.spec.name, "messages": self.messages, **self.parameters, **FIXED_ARGUMENTS}

    def with_parameters(self, *dropped: str, **changed: Any) -> Self:
        """With these parameters changed, and those of these names gone."""
        kept = {name: value for name, value in self.parameters.items() if name not in dropped}
        return replace(self, parameters={**kept, **changed})
