"""Tokens of the front's callers: a file of hashes, each with a tenant and the chains that it may use."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own

from durable_llm.client.checks import check_call_id, check_session, check_share
from durable_llm.contract.yaml_file import read_yaml
from durable_llm.errors import InvalidRequestError

PREFIX: Final = "dllm-"


@dataclass(frozen=True)
class Token:
    """One entry of the file.

    Attributes:
        hash: SHA-256 of the token, in hexadecimal. A token has 256 random bits, so a plain hash tells nothing.
        tenant: Whose calls it makes; the ids of those calls begin with it.
        chains: The chains that it may use. None: all.
        max_open: Requests that it may have open at once, on each front. None: any number.
    """

    hash: str
    tenant: str
    chains: tuple[str, ...] | None = None
    max_open: int | None = None

    def may_use(self, chain: str) -> bool:
        """Whether its caller may use this chain."""
        return self.chains is None or chain in self.chains


def new_token(path: Path, tenant: str, chains: Sequence[str], max_open: int | None = None) -> str:
    """Make a token, and add its hash to the file, which only its owner can read.

    Returns:
        The token. Nothing else keeps it.

    Raises:
        InvalidRequestError: the tenant cannot be part of an id, or the file cannot be used.
    """
    if "/" in check_call_id(tenant):
        raise InvalidRequestError("tenant: expected a name without '/'")
    check_session(tenant)  # it is the session of its calls
    check_share(tenant, None)
    if path.exists():
        read_tokens(path)
    token = PREFIX + secrets.token_urlsafe(32)
    bounds = {"chains": list(chains) or None, "max_open": max_open}
    entry = {"hash": _hash(token), "tenant": tenant, **{name: value for name, value in bounds.items() if value}}
    try:
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as file:
            file.write(yaml.safe_dump([entry], sort_keys=False))
    except OSError as error:
        raise InvalidRequestError(f"--file: cannot write {path}: {error.strerror}") from None
    return token


def read_tokens(path: Path) -> list[Token]:
    """The entries of the file.

    Raises:
        InvalidRequestError: it cannot be read, or an entry is wrong; names it by its place.
    """
    try:
        entries = read_yaml("tokens", path) or []
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None
    if not isinstance(entries, list):
        raise InvalidRequestError(f"tokens: expected a list in {path}, as `durable-llm token` writes it")
    return [_token(place, entry) for place, entry in enumerate(entries, 1)]


def _token(place: int, entry: object) -> Token:
    match entry:
        case {"hash": str(digest), "tenant": str(tenant), **rest} if len(digest) == 64 and tenant and "/" not in tenant:
            most: Any = rest.pop("max_open", None)
            chains = rest.pop("chains", None)
            counted = most is None or (isinstance(most, int) and most > 0)
            if not rest and counted and (chains is None or isinstance(chains, list)):
                return Token(digest, tenant, None if chains is None else tuple(map(str, chains)), most)
    raise InvalidRequestError(
        f"tokens: entry {place}: expected hash, tenant (without '/') and perhaps chains and max_open"
    )


def find_token(tokens: Sequence[Token], given: str) -> Token | None:
    """The entry of a token; None if there is none. Takes the same time for each of the entries."""
    digest, found = _hash(given), None
    for token in tokens:
        if hmac.compare_digest(token.hash, digest):
            found = token
    return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
