"""lmi's dict shapes of a chain of models, and the defaults that lmi adds to each model in them.

{"models": [name, ModelSpec, {"name": ..., **parameters}]}
{"model_list": [{"model_name": ..., "litellm_params": {...}}], "fallbacks": [...], "router_kwargs": {...}}
{"name": ..., **parameters}
"""

from collections.abc import Mapping
from typing import Any, Final

TIMEOUT_S: Final = 60.0

_GEMINI_SAFETY: Final = tuple(
    {"category": f"HARM_CATEGORY_{harm}", "threshold": "BLOCK_ONLY_HIGH"}
    for harm in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
)
_CONFIG_FIELDS: Final = ("response_validator", "tool_parser")
"""Fields that each shape may have beside its models."""


def defaults_of(name: str) -> dict[str, Any]:
    """What lmi adds to a model of this name: 60 s, temperature 1.0 and, for Gemini, its safety settings."""
    safety = {"safety_settings": [dict(setting) for setting in _GEMINI_SAFETY]} if "gemini" in name else {}
    return {"timeout": TIMEOUT_S, "temperature": 1.0, **safety}


def added_to(model: Mapping[str, Any]) -> dict[str, Any]:
    """Those of lmi's defaults that `model` does not override."""
    written = {*model, *(model.get("extra_params") or {})}
    return {name: value for name, value in defaults_of(model["name"]).items() if name not in written}


def models_of(shape: Mapping[str, Any]) -> list[Any]:
    """The models of one of the shapes in order: a dict with a "name" for each, or the ModelSpec that was written.

    Raises:
        ValueError: it is none of the shapes, or a part of it is wrong.
        LookupError: an entry of "model_list" lacks a field; the text names the field.
        TypeError, AttributeError: a part has the wrong type.
    """
    match shape:
        case {"models": models}:
            _refuse_others(shape, {"models", *_CONFIG_FIELDS})
            return [{"name": model} if isinstance(model, str) else model for model in models]
        case {"model_list": model_list}:
            _refuse_others(shape, {"model_list", "fallbacks", "router_kwargs", "name", *_CONFIG_FIELDS})
            return _from_router(model_list, shape.get("fallbacks") or [], shape.get("router_kwargs") or {})
        case {"name": str()}:
            return [{name: value for name, value in shape.items() if name not in _CONFIG_FIELDS}]
    raise ValueError(
        "expected a model name, a ModelSpec, an LLMConfig, {'models': [...]}, {'model_list': [...]} or {'name': ...}"
    )


def config_fields_of(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an LLMConfig that a shape has beside its models."""
    return {name: shape[name] for name in _CONFIG_FIELDS if name in shape}


def _refuse_others(shape: Mapping[str, Any], known: set[str]) -> None:
    if others := sorted(str(name) for name in shape if name not in known):
        raise ValueError(f"unknown fields {', '.join(others)}; this shape has {', '.join(sorted(known))}")


def _from_router(
    model_list: list[Mapping[str, Any]], fallbacks: list[Mapping[str, list[str]]], router_kwargs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The chain of litellm's Router shape: the first entry, its own fallbacks, then the other entries in order."""
    if not model_list:
        raise ValueError("model_list: no models; list at least one")
    entries = {entry["model_name"]: entry for entry in reversed(model_list)}  # the first entry of a name wins
    first = model_list[0]["model_name"]
    named = [name for group in fallbacks for names in group.values() for name in names]
    if missing := sorted({name for name in named if name not in entries}):
        raise ValueError(f"fallbacks: not in model_list: {', '.join(missing)}")
    own = [name for group in fallbacks for name in group.get(first, [])]
    order = dict.fromkeys([first, *own, *(entry["model_name"] for entry in model_list)])
    return [_router_entry(entries[name]["litellm_params"], router_kwargs) for name in order]


def _router_entry(litellm_params: Mapping[str, Any], router_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(litellm_params)
    name = parameters.pop("model")
    retries = parameters.pop("num_retries", router_kwargs.get("num_retries"))
    inherited = {"timeout": router_kwargs.get("timeout"), "max_retries": retries}
    return {"name": name, **{key: value for key, value in inherited.items() if value is not None}, **parameters}
