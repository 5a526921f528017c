"""Who may ask what: the caller of a request, and the chains of the operator's file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError
from starlette.requests import Request

from durable_llm.client.checks import check_share
from durable_llm.client.new_call import to_config
from durable_llm.client.tokens import Token, find_token
from durable_llm.contract.chains import read_chains
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.policy import Policy
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

ANYBODY: Final = Token("", "local")
"""The caller of a front without tokens, which listens on loopback only."""

StreamMode = Literal["live", "settled"]


class RefusedError(Exception):
    """A request that is refused before there is a call.

    Attributes:
        status: Of HTTP.
        message: What is wrong, and what to do.
        code: OpenAI's name for it, if it has one.
        retry_after_s: Seconds after which the same request may pass. None: never.
    """

    def __init__(self, status: int, message: str, code: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Chain:
    """What stands behind a name.

    Attributes:
        config: The models.
        policy: How patient calls are. None: the default.
        stream: How streams show text.
        priority: Of its calls among those that wait. None: Temporal's default.
    """

    config: LLMConfig
    policy: Policy | None = None
    stream: StreamMode = "live"
    priority: int | None = None

    def options_of(self, caller: Token) -> dict[str, Any]:
        """The options of a call by this caller."""
        return {
            "session": caller.tenant, "tenant": caller.tenant, "priority": self.priority, "policy": self.policy,
        }  # fmt: skip


def caller_of(request: Request, tokens: Sequence[Token] | None) -> Token:
    """The caller, by the token of the Authorization header, or of Anthropic's X-Api-Key.

    Raises:
        RefusedError: there is no such token.
    """
    if tokens is None:
        return ANYBODY
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    given = given if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    found = find_token(tokens, given.strip()) if given else None
    if found is None:
        raise RefusedError(
            401, "send a token as 'Authorization: Bearer TOKEN'; the operator makes it", "invalid_api_key"
        )
    return found


class Chains:
    """The operator's chains.

    Args:
        models: Whether callers may name models too.

    Raises:
        InvalidRequestError: the file of chains cannot be used; names the chain.
    """

    def __init__(self, *, models: bool) -> None:
        self._models = models
        try:
            self._named = {name: _chain(name, entry) for name, entry in read_chains().items()}
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None

    def names(self, caller: Token) -> list[str]:
        """The chains that a caller may use."""
        return [name for name in self._named if caller.may_use(name)]

    def find(self, name: str, caller: Token) -> Chain:
        """The chain of this name, or of the model of this name.

        Raises:
            RefusedError: there is none, or it is not the caller's.
            InvalidRequestError: the model cannot be used.
        """
        if name in self._named and caller.may_use(name):
            return self._named[name]
        if name not in self._named and self._models and caller.chains is None:
            return Chain(to_config(name))
        known = ", ".join(self.names(caller)) or "none"
        raise RefusedError(404, f"there is no model {name[:100]!r} here; there are: {known}", "model_not_found")


def _chain(name: str, entry: Mapping[str, Any]) -> Chain:
    stream = entry.get("stream", "live")
    if stream not in ("live", "settled"):
        raise ValueError(f"chain {name}: stream: expected live or settled, got {stream!r}")
    try:
        policy = Policy.model_validate(entry["policy"]) if entry.get("policy") else None
        check_share(None, entry.get("priority"))
        return Chain(to_config(LLMConfig(models=entry["models"])), policy, stream, entry.get("priority"))
    except ValidationError as error:
        raise ValueError(f"chain {name}: {describe_validation_error(error)}") from None
    except InvalidRequestError as error:
        raise ValueError(f"chain {name}: {error.message}") from None
