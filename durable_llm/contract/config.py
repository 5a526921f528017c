"""Which models to ask, in which order, and how: `ModelSpec` and `LLMConfig`, with lmi's fields.

Constructing them checks all that can be known without a worker. The twins ending in `OnWire` have the same fields and
ignore unknown ones: they are what a worker reads.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator, model_validator

from durable_llm.contract import key_reference
from durable_llm.contract.parameters import check_parameters, is_credential_name
from durable_llm.contract.validation import Validator, to_parser_name, to_validator
from durable_llm.contract.wire import Strict, Wire

EXTRA_PARAMS_VARIABLE = "DURABLE_LLM_EXTRA_PARAMS"
DEFAULT_TIMEOUT_S = 600.0
LMI_TIMEOUT_S = 60.0
DEFAULT_MAX_RETRIES = 3

_QUERY_CREDENTIALS = frozenset({"key", "code", "sig", "signature", "auth"})
"""What is a credential in an address and an ordinary word elsewhere."""

_GEMINI_SAFETY = tuple(
    {"category": f"HARM_CATEGORY_{harm}", "threshold": "BLOCK_ONLY_HIGH"}
    for harm in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
)


class ModelSpecOnWire(Wire):
    """A model specification as a worker reads it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """litellm's model name, "provider/model"."""
    api_base: str | None = None
    """Address of the API; only hosts that the worker's operator lists are asked. None: the provider's own."""
    api_key: str | None = None
    """Reference to a key ("os.environ/NAME" or "secrets/NAME"). None: the provider's own variable on the worker."""
    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = DEFAULT_TIMEOUT_S
    """Seconds that one attempt may take in all; None: until the call's deadline."""
    max_retries: Annotated[int, Field(ge=0, le=1000)] = DEFAULT_MAX_RETRIES
    """Attempts on this model after its first one."""
    extra_params: dict[str, Any] = Field(default_factory=dict)
    """Request-shaping parameters, passed to the provider as they are."""
    responses_api: bool = False
    """Whether to use OpenAI's Responses API instead of Chat Completions."""
    background: bool = False
    """Whether the provider works on the response by itself and is asked how far it is; needs `responses_api`."""


class ModelSpec(ModelSpecOnWire, Strict):
    """One model of a chain.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field, a literal key, a credential in the address or in
            `extra_params`, a parameter that steers litellm, or `background` without what it needs.
    """

    model_config = Strict.model_config

    @field_validator("name")
    @classmethod
    def _name_is_a_model(cls, name: str) -> str:
        if name != name.strip() or not name.isprintable():
            raise ValueError("name: expected litellm's 'provider/model', without spaces around it")
        if key_reference.find_literal_key(name):
            raise ValueError(f"name: holds what looks like a key and is shown everywhere; {key_reference.HOW_TO_WRITE}")
        return name

    @field_validator("api_key")
    @classmethod
    def _key_is_a_reference(cls, value: str | None) -> str | None:
        if value is not None:
            key_reference.parse(value)
        return value

    @field_validator("api_base")
    @classmethod
    def _address_without_credentials(cls, value: str | None) -> str | None:
        if value is not None:
            check_address(value)
        return value

    @model_validator(mode="after")
    def _parameters_shape_the_request(self) -> Self:
        check_parameters(self.extra_params, also_allowed())
        check_background(self)
        return self

    @classmethod
    def from_name(cls, name: str, **overrides: Any) -> Self:
        """Construct as lmi does: `temperature=1.0` and, for Gemini, its safety settings, unless overridden.

        Overrides that name a field set it; all others go to `extra_params`. Precedence: defaults, then loose overrides,
        then an explicit `extra_params`. The timeout is lmi's 60 s.
        """
        fields = {key: value for key, value in overrides.items() if key in cls.model_fields and key != "extra_params"}
        loose = {key: value for key, value in overrides.items() if key not in cls.model_fields}
        defaults: dict[str, Any] = {"temperature": 1.0}
        if "gemini" in name:
            defaults["safety_settings"] = [dict(setting) for setting in _GEMINI_SAFETY]
        explicit = overrides.get("extra_params") or {}
        fields.setdefault("timeout", LMI_TIMEOUT_S)
        return cls(**{**fields, "name": name, "extra_params": {**defaults, **loose, **explicit}})


class LLMConfig(Strict):
    """An ordered chain of models: the first is asked first, the others when it cannot answer.

    Raises:
        pydantic.ValidationError: (a ValueError) when there is no model, or as ModelSpec does.
    """

    models: Annotated[list[ModelSpec], Field(min_length=1, max_length=50)]
    response_validator: Validator | None = None
    """A validator beside those that `submit` gets, by its name on the worker."""
    tool_parser: str | None = None
    """Name of the worker's tool parser, for models that write tool calls as text."""

    @field_validator("response_validator", mode="before")
    @classmethod
    def _validator_is_named(cls, value: object) -> Validator | None:
        return None if value is None else to_validator(value)

    @field_validator("tool_parser", mode="before")
    @classmethod
    def _parser_is_named(cls, value: object) -> str | None:
        return None if value is None else to_parser_name(value)

    def with_extra_params(self, **parameters: Any) -> Self:
        """A copy with `parameters` merged over every model's `extra_params`."""
        models = [
            ModelSpec(**{**spec.model_dump(exclude_unset=True), "extra_params": {**spec.extra_params, **parameters}})
            for spec in self.models
        ]
        return type(self)(models=models, response_validator=self.response_validator, tool_parser=self.tool_parser)


def also_allowed() -> frozenset[str]:
    """Parameters that the operator added, on this machine as on the workers, in DURABLE_LLM_EXTRA_PARAMS."""
    return frozenset(name.strip() for name in os.environ.get(EXTRA_PARAMS_VARIABLE, "").split(",") if name.strip())


_BY_NAME: Final = {
    "background": "set the spec's own background",
    "stream": "write extra_params={'stream': True}",
    "previous_response_id": "give the assistant's message its 'response_id'",
}
"""What decides how a response is asked for and read, and what to write instead of hiding it in `extra_body`."""


def check_background(spec: ModelSpecOnWire) -> None:
    """Refuse a background mode that could not be followed, also one that nobody else would know of.

    Raises:
        ValueError: saying what to write instead.
    """
    body = spec.extra_params.get("extra_body")
    hidden = [name for name in _BY_NAME if spec.responses_api and isinstance(body, Mapping) and body.get(name)]
    if hidden:
        raise ValueError(f"extra_body: {hidden[0]!r} is refused with responses_api: {_BY_NAME[hidden[0]]}")
    if not spec.background:
        return
    if not spec.responses_api:
        raise ValueError("background: only the Responses API has it; set responses_api=True too")
    if False in (spec.extra_params.get("store"), body.get("store") if isinstance(body, Mapping) else None):
        raise ValueError("background: a response that is not stored cannot be followed; leave 'store' out")
    if spec.extra_params.get("stream"):
        raise ValueError("background: an answer that is asked for now and then is no stream; leave 'stream' out")


def check_address(address: str) -> None:
    """Refuse an `api_base` that is no http(s) address or that carries a credential.

    Raises:
        ValueError: saying what to write instead; the address is not repeated, since it may hold a key.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("api_base: not an address; write 'https://host:port/path'") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("api_base: expected an address like 'https://host:port/path'")
    if parts.username is not None or parts.password is not None or key_reference.find_literal_key(address):
        raise ValueError(f"api_base: holds a credential; {key_reference.HOW_TO_WRITE}")
    names = [name.lower() for name, _ in parse_qsl(f"{parts.query}&{parts.fragment}", keep_blank_values=True)]
    if any(is_credential_name(name) or name in _QUERY_CREDENTIALS for name in names):
        raise ValueError(f"api_base: holds a credential in its query; {key_reference.HOW_TO_WRITE}")
