"""Resolve key references under the operator's rules.

Everyone who may start a workflow is a caller, and callers name models, addresses and keys. Without these rules a caller
could make the worker send its keys to any address.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from durable_llm.contract import key_reference
from durable_llm.contract.facts import LocalFault

from ..faults import LocalFaultError
from .key_settings import HOSTS_VARIABLE, KEYS_VARIABLE, RESERVED, parse_hosts, parse_keys
from .known_secrets import passwords_in, secrets_in
from .providers import is_own, key_variables, looks_like_credential
from .scrub import Scrubber

SECRET_FILE_BYTES: Final = 64 * 1024
"""Maximum size of a secret file. Every word of one is searched for in every text that leaves the worker, so a large
file that got into the directory would make each attempt take seconds."""

DUMMY_KEY: Final = "no-key"
"""Key for an `api_base` without a key. Otherwise litellm would take the worker's own."""


@dataclass(frozen=True)
class Credentials:
    """The credentials that one request may carry."""

    api_key: str | None = field(default=None, repr=False)
    """The key for litellm. None: litellm takes the provider's own variables."""
    forbidden: frozenset[str] = field(default=frozenset(), repr=False)
    """All other credentials of this worker, which the request must not carry."""


class KeyRing:
    """The worker's keys and the rules for them.

    Args:
        environment: The worker's variables.
        pairs: Result of `parse_keys`: which key may go to which provider or host, beyond a provider's own keys.
        hosts: Result of `parse_hosts`: hosts that an `api_base` may name.
        secrets_dir: Directory of the files for "secrets/NAME" references. None: no files.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        pairs: Collection[tuple[str, str]] = (),
        hosts: Collection[str] = (),
        secrets_dir: Path | None = None,
    ) -> None:
        self._environment = {name: value.strip() for name, value in environment.items()}
        self._pairs = frozenset(pairs)
        self._hosts = frozenset(hosts)
        self._secrets_dir = secrets_dir
        self._secrets = self._in_environment()
        self.secrets()  # the old value was read before the rotation

    @classmethod
    def from_settings(cls, environment: Mapping[str, str], *, keys: str, hosts: str, secrets_dir: Path | None) -> Self:
        """Build a ring from the operator's settings.

        Raises:
            ValueError: a setting cannot be parsed; names it.
        """
        return cls(environment, pairs=parse_keys(keys), hosts=parse_hosts(hosts), secrets_dir=secrets_dir)

    def __repr__(self) -> str:
        return f"KeyRing({len(self._secrets)} secrets)"

    def secrets(self) -> frozenset[str]:
        """Every credential value that this worker knows or has known. Files are read again: they may be rotated."""
        for path in self._secret_files():
            self._remember(_content(path))
        return self._secrets

    def scrubber(self, messages: Any = None) -> Scrubber:
        """A scrubber for every key that this worker knows, and for these messages of a prompt."""
        return Scrubber(self.secrets(), messages)

    def _remember(self, value: str) -> None:
        self._secrets |= secrets_in(value)

    def resolve(self, provider: str, api_base: str | None, reference: str | None) -> Credentials:
        """The credentials for a request to `provider` at `api_base`.

        Raises:
            LocalFaultError: the host is not listed, or the key is missing or not allowed there.
        """
        if api_base is not None:
            host = self._listed_host(api_base)
            key = DUMMY_KEY if reference is None else self._read(reference, host)
            return Credentials(key, self.secrets() - secrets_in(key))
        own = self._own_values(provider)
        if reference is None:
            self._require_own(provider, own)
            return Credentials(None, self.secrets() - own)
        key = self._read(reference, {provider.lower()}, own_of=provider)
        return Credentials(key, self.secrets() - own - secrets_in(key))

    def _listed_host(self, api_base: str) -> set[str]:
        """A listed host without its port and with it."""
        parts = urlsplit(api_base)
        host = (parts.hostname or "").lower()
        bracketed = f"[{host}]" if ":" in host else host
        spellings = {bracketed, f"{bracketed}:{parts.port or (443 if parts.scheme == 'https' else 80)}"}
        if not spellings & self._hosts:
            raise LocalFaultError(
                LocalFault.ADDRESS_NOT_ALLOWED,
                f"api_base names the host {parts.netloc}, which this worker may not ask; the operator lists hosts in "
                f"{HOSTS_VARIABLE}",
            )
        return spellings

    def _read(self, reference: str, targets: set[str], own_of: str | None = None) -> str:
        try:
            source, name = key_reference.parse(reference)
        except ValueError as error:
            raise LocalFaultError(LocalFault.KEY_NOT_ALLOWED, str(error)) from None
        listed = name if source == key_reference.ENVIRONMENT else f"{source}{name}"
        self._check(listed, targets, own_of)
        value = self._value(listed)
        if not value:
            missing = (
                f"the variable {name} is not set"
                if source == key_reference.ENVIRONMENT
                else f"the secret file {name} is missing, empty, no text or over {SECRET_FILE_BYTES // 1024} KiB"
            )
            raise LocalFaultError(LocalFault.MISSING_KEY, f"{missing} on this worker")
        return value

    def _check(self, listed: str, targets: set[str], own_of: str | None) -> None:
        if listed.upper().startswith(RESERVED):
            raise LocalFaultError(LocalFault.KEY_NOT_ALLOWED, f"{listed} is one of the worker's own settings, no key")
        if own_of is not None and is_own(listed, own_of):
            return
        if not any((listed, target) in self._pairs for target in targets):
            pair = f"{listed}={min(targets, key=len)}"
            raise LocalFaultError(
                LocalFault.KEY_NOT_ALLOWED,
                f"the key {listed} may not go there; the operator may add '{pair}' to {KEYS_VARIABLE}",
            )

    def _read_file(self, name: str) -> str:
        value = _content(self._secrets_dir / name) if self._secrets_dir else ""
        self._remember(value)
        return value

    def _own_values(self, provider: str) -> frozenset[str]:
        own = [value for name, value in self._environment.items() if is_own(name, provider)]
        return frozenset(secret for value in own for secret in (value, *secrets_in(value)) if secret)

    def _require_own(self, provider: str, own: frozenset[str]) -> None:
        names = key_variables(provider)
        if names and not own:
            raise LocalFaultError(
                LocalFault.MISSING_KEY,
                f"no key for {provider} on this worker: set {' or '.join(names)}, or the spec's api_key to a reference",
            )

    def _in_environment(self) -> frozenset[str]:
        secrets: set[str] = set()
        for name, value in self._environment.items():
            secrets |= (
                secrets_in(value) if looks_like_credential(name) or self._is_listed(name) else passwords_in(value)
            )
        return frozenset(secrets)

    def missing(self) -> list[str]:
        """References of the operator's list that lead to no key: variables, and "secrets/NAME" for files."""
        listed = sorted({name for name, _ in self._pairs})
        return [name for name in listed if not self._value(name)]

    def _value(self, listed: str) -> str | None:
        file = listed.removeprefix(key_reference.SECRET_FILE)
        return self._environment.get(listed) if file == listed else self._read_file(file)

    def _is_listed(self, variable: str) -> bool:
        return any(name == variable for name, _ in self._pairs)

    def _secret_files(self) -> list[Path]:
        """The files of the directory. In Kubernetes they are links into a folder that a rotation replaces."""
        try:
            return [path for path in self._secrets_dir.iterdir() if path.is_file()] if self._secrets_dir else []
        except OSError:  # missing or not listable; a file in it may still be readable
            return []


def _content(path: Path) -> str:
    """A secret file's text, stripped. "" if it cannot be read or is too large for a secret."""
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_FILE_BYTES + 1)
        return content.decode().strip() if len(content) <= SECRET_FILE_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""
