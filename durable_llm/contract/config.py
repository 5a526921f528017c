"""Which models to ask, in which order, and how: `ModelSpec` and `LLMConfig`.

The constructors check everything that depends neither on a worker nor on the environment. `ModelSpecOnWire` has the
same fields without the checks; workers read it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Field, model_validator

from durable_llm.contract import key_reference, lmi
from durable_llm.contract.chains import CHAINS_VARIABLE, read_chains
from durable_llm.contract.parameters import check_values, is_credential_name
from durable_llm.contract.validation import Validator, to_parser_name, to_validator
from durable_llm.contract.wire import Strict, Wire

DEFAULT_TIMEOUT_S = 600.0
DEFAULT_MAX_RETRIES = 3

_QUERY_CREDENTIALS = frozenset({"key", "code", "sig", "signature", "auth"})
"""Names of credentials in an address that are ordinary words elsewhere."""


class ModelSpecOnWire(Wire):
    """A model specification as a worker reads it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """litellm's model name, "provider/model"."""
    api_base: str | None = None
    """Address of the API; the worker's operator lists the allowed hosts. None: the provider's own address."""
    api_key: str | None = None
    """Reference to a key ("os.environ/NAME" or "secrets/NAME"). None: the provider's own variable on the worker."""
    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = DEFAULT_TIMEOUT_S
    """Seconds that one attempt may take in total; None: until the call's deadline."""
    first_token_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    """Seconds until the first piece of the answer, of its reasoning or of a tool call. With it, the attempt asks for a
    stream, also if nobody reads it. None: only `timeout` counts; some models think for minutes in silence."""
    token_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    """Seconds from one piece to the next; a keepalive is not a piece. As above."""
    max_retries: Annotated[int, Field(ge=0, le=1000)] = DEFAULT_MAX_RETRIES
    """Attempts on this model after the first one."""
    extra_params: dict[str, Any] = Field(default_factory=dict)
    """Request-shaping parameters, passed to the provider unchanged."""
    responses_api: bool = False
    """Whether to use OpenAI's Responses API instead of Chat Completions."""
    background: bool = False
    """Whether the provider works on the response in the background and is polled; needs `responses_api`."""
    batch: bool = False
    """Whether to ask through the provider's Batch API, at half the price and within hours, as long as the deadline is
    far enough: OpenAI and Anthropic have one."""


class ModelSpec(ModelSpecOnWire, Strict):
    """One model of a chain.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field, a literal key, a credential in the address or in
            `extra_params`, a parameter that steers litellm, or `background` without what it needs. Whether the other
            names in `extra_params` are allowed depends on the operator, so `submit` and the worker check them.
    """

    model_config = Strict.model_config

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        if self.name != self.name.strip() or not self.name.isprintable():
            raise ValueError("name: expected litellm's 'provider/model', without spaces around it")
        if key_reference.find_literal_key(self.name):
            raise ValueError(f"name: holds what looks like a key and is shown everywhere; {key_reference.HOW_TO_WRITE}")
        if self.api_key is not None:
            key_reference.parse(self.api_key)
        if self.api_base is not None:
            check_address(self.api_base)
        check_values(self.extra_params)
        check_background(self)
        check_batch(self)
        return self

    @classmethod
    def from_name(cls, name: str, **overrides: Any) -> Self:
        """Construct as lmi does: 60 s, temperature 1.0 and, for Gemini, lmi's safety settings, unless overridden.

        Overrides that name a field set it; all others go to `extra_params`. Precedence: defaults, then loose overrides,
        then an explicit `extra_params`.
        """
        parameters = {**lmi.defaults_of(name), **overrides}
        explicit = parameters.pop("extra_params", None) or {}
        fields = {key: parameters.pop(key) for key in list(parameters) if key in cls.model_fields}
        return cls(name=name, **fields, extra_params={**parameters, **explicit})


class LLMConfig(Strict):
    """An ordered chain of models: the first is asked first, the others if it cannot answer.

    Raises:
        pydantic.ValidationError: (a ValueError) if there is no model, or as for ModelSpec.
    """

    models: Annotated[list[ModelSpec], Field(min_length=1, max_length=50)]
    response_validator: Annotated[Validator, BeforeValidator(to_validator)] | None = None
    """A validator in addition to those of `submit`, by its name on the worker."""
    tool_parser: Annotated[str, BeforeValidator(to_parser_name)] | None = None
    """Name of the worker's tool parser, for models that write tool calls as text."""

    @classmethod
    def from_lmi(cls, shape: Mapping[str, Any]) -> Self:
        """Construct from a dict in one of lmi's three shapes, with lmi's defaults for each model written in it.

        The defaults are those of `ModelSpec.from_name`. A ModelSpec in the shape is taken as it is.

        Raises:
            ValueError: the shape or a model in it is invalid (pydantic.ValidationError is one).
            LookupError, TypeError, AttributeError: an entry lacks a field or has the wrong type.
        """
        return cls(models=[_from_lmi(model) for model in lmi.models_of(shape)], **lmi.config_fields_of(shape))

    @classmethod
    def named(cls, name: str) -> Self:
        """The chain of this name in the operator's file, which DURABLE_LLM_CHAINS names.

        Raises:
            ValueError: there is no such chain, or the file or a model in it is invalid.
        """
        chains = read_chains()
        if name not in chains:
            known = ", ".join(sorted(chains)) or "none"
            raise ValueError(f"there is no chain {name!r} in the file of {CHAINS_VARIABLE}, which has {known}")
        return cls(models=chains[name]["models"])

    def with_extra_params(self, **parameters: Any) -> Self:
        """A copy with `parameters` merged over every model's `extra_params`."""
        models = [
            ModelSpec(**{**spec.model_dump(exclude_unset=True), "extra_params": {**spec.extra_params, **parameters}})
            for spec in self.models
        ]
        return type(self)(models=models, response_validator=self.response_validator, tool_parser=self.tool_parser)


def _from_lmi(model: Any) -> ModelSpec:
    match model:
        case ModelSpec():
            return model
        case {"name": str()}:
            return ModelSpec.from_name(**model)
    raise ValueError("models: each entry is a model name, a ModelSpec or a dict with a 'name'")


_NOT_IN_BODY: Final = {
    "background": "set the spec's own background",
    "stream": "write extra_params={'stream': True}",
    "previous_response_id": "give the assistant's message its 'response_id'",
}
"""Fields that decide how a response is requested and read, and what to write instead of hiding them in `extra_body`."""


def check_background(spec: ModelSpecOnWire) -> None:
    """Refuse a background response that cannot be followed, and one that is hidden in `extra_body`.

    Raises:
        ValueError: saying what to write instead.
    """
    body = spec.extra_params.get("extra_body")
    hidden = [name for name in _NOT_IN_BODY if spec.responses_api and isinstance(body, Mapping) and body.get(name)]
    if hidden:
        raise ValueError(f"extra_body: {hidden[0]!r} is refused with responses_api: {_NOT_IN_BODY[hidden[0]]}")
    if not spec.background:
        return
    if not spec.responses_api:
        raise ValueError("background: only the Responses API has it; set responses_api=True too")
    if False in (spec.extra_params.get("store"), body.get("store") if isinstance(body, Mapping) else None):
        raise ValueError("background: a response that is not stored cannot be followed; leave 'store' out")
    if spec.extra_params.get("stream"):
        raise ValueError("background: a response that is polled has no stream; leave 'stream' out")


def check_batch(spec: ModelSpecOnWire) -> None:
    """Refuse what a line of a provider's batch cannot have.

    Raises:
        ValueError: saying what to write instead.
    """
    if not spec.batch:
        return
    if spec.responses_api:
        raise ValueError("batch: it is asked by Chat Completions or Messages; leave responses_api out")
    if spec.first_token_timeout is not None or spec.token_timeout is not None:
        raise ValueError("batch: it has no stream; leave first_token_timeout and token_timeout out")
    for name in ("stream", "extra_headers"):
        if spec.extra_params.get(name):
            raise ValueError(f"batch: a line of a batch has no {name!r}; leave it out")


def check_address(address: str) -> None:
    """Refuse an `api_base` that is not an http(s) address or that contains a credential.

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
    if "api-version" in names:
        raise ValueError("api_base: 'api-version' is refused here; write extra_params={'api_version': '...'}")
    if any(is_credential_name(name) or name in _QUERY_CREDENTIALS for name in names):
        raise ValueError(f"api_base: holds a credential in its query; {key_reference.HOW_TO_WRITE}")
