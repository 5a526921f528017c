"""Parse the operator's settings about keys and addresses.

A worker parses them when it starts, so that a typo stops the worker with an error instead of failing calls.
"""

import re
from typing import Final

from durable_llm.contract.key_reference import ENVIRONMENT, SECRET_FILE, find_literal_key

KEYS_VARIABLE: Final = "DURABLE_LLM_KEYS"
HOSTS_VARIABLE: Final = "DURABLE_LLM_API_BASE_HOSTS"
RESERVED: Final = ("TEMPORAL_", "DURABLE_LLM_")
"""Prefixes of the worker's own settings. No reference resolves to them."""

_NAME = re.compile(rf"(?:{re.escape(SECRET_FILE)})?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def parse_keys(text: str) -> frozenset[tuple[str, str]]:
    """Parse DURABLE_LLM_KEYS: "MY_KEY=openai, TEAM_API_KEY=llm.internal, secrets/team=127.0.0.1:8000".

    Returns:
        Pairs of a key's name ("NAME" for a variable, "secrets/NAME" for a file) and a provider or host.

    Raises:
        ValueError: an entry is not a pair, or names a setting of the worker.
    """
    return frozenset(_pair(number, entry) for number, entry in enumerate(_entries(text), 1))


def parse_hosts(text: str) -> frozenset[str]:
    """Parse DURABLE_LLM_API_BASE_HOSTS: a comma-separated list of hosts, each with or without a port.

    Raises:
        ValueError: an entry is not a host. Wildcards are not hosts.
    """
    hosts = [entry.lower() for entry in _entries(text)]
    for number, host in enumerate(hosts, 1):
        if not _TARGET.fullmatch(host) or find_literal_key(host):
            # It may be an address with a key, so it is not repeated.
            raise ValueError(
                f"{HOSTS_VARIABLE}: entry {number} is not a host; write hosts like 'llm.internal, 127.0.0.1:8000'"
            )
    return frozenset(hosts)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _pair(number: int, entry: str) -> tuple[str, str]:
    name, equals, target = (part.strip() for part in entry.partition("="))
    name = name.removeprefix(ENVIRONMENT)
    fits = equals and _NAME.fullmatch(name) and _TARGET.fullmatch(target)
    if not fits or find_literal_key(entry):
        # Either side may be a pasted key, so neither is repeated.
        raise ValueError(
            f"{KEYS_VARIABLE}: entry {number} is not a pair; write 'NAME=provider' or 'NAME=host', separated by "
            "commas, where NAME is the name of a variable or 'secrets/FILE', never a key itself"
        )
    if name.upper().startswith(RESERVED):
        raise ValueError(f"{KEYS_VARIABLE}: {name} is one of the worker's own settings and never resolves")
    return name, target.lower()
