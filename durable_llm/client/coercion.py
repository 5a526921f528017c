"""From what callers write to an `LLMConfig`: a name, a spec, a config, or a dict in one of lmi's three shapes.

The dict shapes are lmi's and bring lmi's defaults (temperature 1.0, Gemini's safety settings, a timeout of 60 s); a
bare name or a `ModelSpec` brings none.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.errors import InvalidRequestError, describe_validation_error

ConfigLike = str | ModelSpec | LLMConfig | Mapping[str, Any]
"""All that a caller may pass as `config`."""


def to_config(value: ConfigLike) -> LLMConfig:
    """Coerce `value` to an LLMConfig.

    Raises:
        InvalidRequestError: it is none of the accepted shapes, or a model in it is invalid.
    """
    try:
        return _coerce(value)
    except ValidationError as error:
        raise InvalidRequestError(f"config: {describe_validation_error(error)}") from None
    except LookupError as error:
        raise InvalidRequestError(f"config: an entry has no {error}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"config: {error}") from None


_BESIDE: Final = ("response_validator", "tool_parser")
"""What rides along with the models in each of lmi's shapes."""


def _coerce(value: ConfigLike) -> LLMConfig:
    match value:
        case LLMConfig():
            return value
        case ModelSpec():
            return LLMConfig(models=[value])
        case str():
            return LLMConfig(models=[ModelSpec(name=value)])
        case {"models": models}:
            _refuse_others(value, {"models", *_BESIDE})
            return LLMConfig(models=[_spec(model) for model in models], **_beside(value))
        case {"model_list": model_list}:
            _refuse_others(value, {"model_list", "fallbacks", "router_kwargs", "name", *_BESIDE})
            fallbacks, router_kwargs = value.get("fallbacks") or [], value.get("router_kwargs") or {}
            return LLMConfig(models=_from_router(model_list, fallbacks, router_kwargs), **_beside(value))
        case {"name": str()}:
            own = {name: field for name, field in value.items() if name not in _BESIDE}
            return LLMConfig(models=[ModelSpec.from_name(**own)], **_beside(value))
    raise ValueError(
        "expected a model name, a ModelSpec, an LLMConfig, {'models': [...]}, {'model_list': [...]} or {'name': ...}"
    )


def _beside(shape: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shape[name] for name in _BESIDE if name in shape}


def _spec(model: str | ModelSpec | Mapping[str, Any]) -> ModelSpec:
    match model:
        case ModelSpec():
            return model
        case str():
            return ModelSpec.from_name(model)
        case {"name": str()}:
            return ModelSpec.from_name(**model)
    raise ValueError("models: each entry is a model name, a ModelSpec or a dict with a 'name'")


def _refuse_others(shape: Mapping[str, Any], known: set[str]) -> None:
    if others := sorted(str(name) for name in shape if name not in known):
        raise ValueError(f"unknown fields {', '.join(others)}; this shape has {', '.join(sorted(known))}")


def _from_router(
    model_list: list[Mapping[str, Any]], fallbacks: list[Mapping[str, list[str]]], router_kwargs: Mapping[str, Any]
) -> list[ModelSpec]:
    """Flatten litellm's Router shape: first entry, then its own fallback list, then the others in order."""
    if not model_list:
        raise ValueError("model_list: no models; list at least one")
    entries = {entry["model_name"]: entry for entry in reversed(model_list)}  # the first of a name wins
    primary = model_list[0]["model_name"]
    named = [name for group in fallbacks for names in group.values() for name in names]
    if missing := sorted({name for name in named if name not in entries}):
        raise ValueError(f"fallbacks: not in model_list: {', '.join(missing)}")
    own = [name for group in fallbacks for name in group.get(primary, [])]
    order = dict.fromkeys([primary, *own, *(entry["model_name"] for entry in model_list)])
    return [_router_entry(entries[name]["litellm_params"], router_kwargs) for name in order]


def _router_entry(litellm_params: Mapping[str, Any], router_kwargs: Mapping[str, Any]) -> ModelSpec:
    parameters = dict(litellm_params)
    name = parameters.pop("model")
    retries = parameters.pop("num_retries", router_kwargs.get("num_retries"))
    inherited = {"timeout": router_kwargs.get("timeout"), "max_retries": retries}
    fields = {key: value for key, value in inherited.items() if value is not None}
    return ModelSpec.from_name(name, **{**fields, **parameters})
