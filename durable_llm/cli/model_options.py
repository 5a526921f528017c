"""Options of the models: a chain from -m or from a configuration file, and what holds for each model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from durable_llm.cli.parse import duration, json_or_text, pairs, read_config
from durable_llm.client.new_call import to_config
from durable_llm.contract.chains import read_chains
from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

_PANEL = "Models"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The models, in the order in which they are asked."""

    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", help="Model, as 'openai/gpt-4o-mini', or a named chain; repeat it for a chain.",
            metavar="NAME", rich_help_panel=_PANEL,
        ),
    ] = None  # fmt: skip
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Chain of models in a YAML, TOML or JSON file.", rich_help_panel=_PANEL),
    ] = None
    api_base: Annotated[str | None, typer.Option(help="Address of the API.", metavar="URL", rich_help_panel=_PANEL)] = (
        None
    )
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Reference to a key: 'os.environ/NAME' or 'secrets/NAME'; never the key.", metavar="REFERENCE",
            rich_help_panel=_PANEL,
        ),
    ] = None  # fmt: skip
    param: Annotated[
        list[str] | None,
        typer.Option(
            help="Parameter for the provider, as 'temperature=0.2'; the value is JSON or a text.", metavar="KEY=VALUE",
            rich_help_panel=_PANEL,
        ),
    ] = None  # fmt: skip
    max_retries: Annotated[
        int | None, typer.Option(help="Attempts on each model after its first.", rich_help_panel=_PANEL)
    ] = None
    timeout: Annotated[
        str | None, typer.Option(help="How long one attempt may take.", metavar="DURATION", rich_help_panel=_PANEL)
    ] = None

    @property
    def are_named(self) -> bool:
        """Whether the command line names the models."""
        return self.model is not None or self.config is not None

    def to_config(self, otherwise: str | None = None) -> LLMConfig:
        """The chain.

        Args:
            otherwise: The model to ask if the command line names none.

        Raises:
            InvalidRequestError: no model, -m beside -c, or an invalid model.
        """
        try:
            overrides, parameters = self._overrides(), self._parameters()
            specs = self._specs() if self.are_named or not otherwise else [ModelSpec(name=otherwise)]
            return LLMConfig(models=[_overridden(spec, overrides, parameters) for spec in specs])
        except ValidationError as error:
            raise InvalidRequestError(describe_validation_error(error)) from None

    def _specs(self) -> list[ModelSpec]:
        if (self.model is None) == (self.config is None):
            raise InvalidRequestError("name the models either with -m (repeat it for a chain) or with -c FILE")
        if self.config is not None:
            return to_config(read_config("--config", self.config)).models
        return [spec for name in self.model or () for spec in _named(name)]

    def _overrides(self) -> dict[str, Any]:
        timeout = duration("--timeout", self.timeout).total_seconds() if self.timeout is not None else None
        fields = {
            "api_base": self.api_base, "api_key": self.api_key, "max_retries": self.max_retries, "timeout": timeout,
        }  # fmt: skip
        return {name: value for name, value in fields.items() if value is not None}

    def _parameters(self) -> dict[str, Any]:
        return {name: json_or_text(value) for name, value in pairs("--param", self.param).items()}


def _named(name: str) -> list[ModelSpec]:
    """The chain of this name in the operator's file, or else the model of this name."""
    try:
        chains = read_chains()
        return LLMConfig(models=chains[name]["models"]).models if name in chains else [ModelSpec(name=name)]
    except ValidationError:
        raise
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


def _overridden(spec: ModelSpec, fields: Mapping[str, Any], parameters: Mapping[str, Any]) -> ModelSpec:
    """`spec` with what the command line says. Where it says nothing, the spec and its fingerprint stay the same."""
    if not fields and not parameters:
        return spec
    merged = {"extra_params": {**spec.extra_params, **parameters}} if parameters else {}
    return ModelSpec(**{**spec.model_dump(exclude_unset=True), **fields, **merged})
