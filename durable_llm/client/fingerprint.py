"""Whether two requests under one id are the same request.

Each part that a caller writes has a hash of its own, without defaults, policy, deadline and metadata. So a conflict can
name the part that differs, and an upgrade of the client that adds a field or changes a default causes no conflict. The
hashes are stored with each call and outlive versions: a hash that is computed in another way needs another name.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.contract.request import Prompt

# How long and how often to try is policy, not part of the request; parameters have a hash of their own.
_POLICY_FIELDS = {"timeout", "max_retries", "extra_params"}


def fingerprint(config: LLMConfig, prompt: Prompt) -> dict[str, str]:
    """Hashes of "models", "messages", "tools" and "parameters", and of "texts" if there are any."""
    return {
        "models": _hash([_written(spec) for spec in config.models]),
        "messages": _hash(prompt.messages),
        **({} if prompt.texts is None else {"texts": _hash([prompt.texts, prompt.dimensions])}),
        "tools": _hash(prompt.tools or []),
        "parameters": _hash([
            [spec.extra_params for spec in config.models], prompt.tool_choice, prompt.response_format,
            *_validation(prompt),
        ]),
    }  # fmt: skip


def content_id(content: object) -> str:
    """A part of an id that stands for a content, such as a fingerprint: 20 hexadecimal digits."""
    return _hash(content)[:20]


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Names of the parts that both know and that differ."""
    return [part for part, value in ours.items() if part in theirs and theirs[part] != value]


def _validation(prompt: Prompt) -> list[Any]:
    """Validators and parser, if there are any: a request without them keeps the hash of earlier versions."""
    if not prompt.validators and not prompt.tool_parser:
        return []
    return [[_without_empty(each.model_dump(exclude_defaults=True)) for each in prompt.validators], prompt.tool_parser]


def _written(spec: ModelSpec) -> dict[str, Any]:
    """The fields that the caller set; an empty one counts as unset, whatever this version's default is."""
    return _without_empty(spec.model_dump(exclude_unset=True, exclude=_POLICY_FIELDS))


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _hash(value: Any) -> str:
    canonical = json.dumps(to_jsonable_python(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
