"""The value that each step of the request pipeline takes and returns."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from durable_llm.contract.config import ModelSpecOnWire

from ..litellm_setup import FIXED_ARGUMENTS


@dataclass(frozen=True)
class ProviderRequest:
    """The request to one provider. Each step of `build_request` takes one and returns one.

    Attributes:
        spec: The model and its parameters.
        provider: litellm's name of its provider.
        messages: The conversation in OpenAI's format. For the Responses API it is among the parameters.
        parameters: litellm's other arguments. They hold the API key.
    """

    spec: ModelSpecOnWire
    provider: str
    messages: list[dict[str, Any]]
    parameters: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> str:
        """The provider's name of the model."""
        return self.spec.name.removeprefix(f"{self.provider}/").removeprefix("responses/")

    @property
    def choices(self) -> int:
        """Number of choices that the spec asks for."""
        asked = self.spec.extra_params.get("n")
        return asked if isinstance(asked, int) else 1

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for `litellm.acompletion`, or for `litellm.aresponses` if the spec uses that API."""
        if self.spec.responses_api:
            return {"model": f"{self.provider}/{self.model}", **self.parameters, **FIXED_ARGUMENTS}
        return {"model": self.spec.name, "messages": self.messages, **self.parameters, **FIXED_ARGUMENTS}

    def with_parameters(self, *dropped: str, **changed: Any) -> Self:
        """The request with changed parameters, and without those named in `without`."""
        kept = {name: value for name, value in self.parameters.items() if name not in dropped}
        return replace(self, parameters={**kept, **changed})
