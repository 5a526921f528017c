"""Find the worker's keys in a text, in every spelling.

A provider that refuses a key often repeats it: complete, escaped for a URL or for JSON, in Basic authorization, cut, or
with a masked middle. A plain search finds only the first.
"""

import base64
import html
import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

KEY_MARK: Final = "[key]"

SHORTEST_SECRET: Final = 8
"""Minimum characters of a secret. Shorter values occur in ordinary words."""

LONG_SECRET: Final = 20
"""Minimum characters of a secret that is searched for in requests and answers too, and in part in error texts. A
shorter one may be an ordinary word."""

SHORTEST_PART: Final = 12
"""Characters of a long secret that count as the secret itself."""

_RUN = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_PASSWORD = re.compile(r"://[^/@\s]*:([^/@\s]+)@")
_BASE64: Final = "[A-Za-z0-9+/_-]"
_ONE_WORD = re.compile(r"[^\s{}\"'/][^\s{}\"']*")
_MASKED = re.compile(r"(?<![\w+~-])([\w+~-]{4,}+)(?:\*{2,}|\.{2,}|…+|•+|\Z)([\w+~-]*)")


def secrets_in(value: str) -> set[str]:
    """The secret parts of a credential: the value, and the long words of a document like Google's JSON."""
    return _worth({value, *_RUN.findall(value.replace("\\n", "\n"))})


def passwords_in(value: str) -> set[str]:
    """The passwords in URLs, such as a database's or a proxy's."""
    return _worth(set(_PASSWORD.findall(value)))


def _worth(values: Collection[str]) -> set[str]:
    return {value.strip() for value in values if len(value.strip()) >= SHORTEST_SECRET}


class KnownSecrets:
    """Secrets to look for.

    Args:
        secrets: The values, of at least SHORTEST_SECRET characters.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)  # a secret may contain another
        # Secrets of which a part counts too. Parts of paths and documents are ordinary words.
        self.long_words = [s for s in self._secrets if len(s) >= LONG_SECRET and _ONE_WORD.fullmatch(s)]

    def cut_whole(self, text: str, shortest: int = 0) -> str:
        """`text` without complete secrets of at least `shortest` characters, in any spelling."""
        for secret in self._secrets:
            if len(secret) >= shortest:
                text = _without(secret, text)
        return text

    def cut_masked(self, text: str) -> str:
        """`text` without secrets that have a masked middle or a missing end."""
        return _MASKED.sub(self._masked, text)

    def _masked(self, found: re.Match[str]) -> str:
        begin, end = found[1], found[2]
        ours = any(word.startswith(begin) or (len(end) > 2 and word.endswith(end)) for word in self.long_words)
        return KEY_MARK if ours else found[0]


def _without(secret: str, text: str) -> str:
    plain, encoded = _spellings(secret)
    for spelling in plain:
        text = text.replace(spelling, KEY_MARK)
    for core in encoded:
        if core in text:  # and what was encoded with it, such as a user name and a colon
            text = re.sub(f"{_BASE64}*{re.escape(core)}{_BASE64}*={{0,2}}", KEY_MARK, text)
    return text


@lru_cache(maxsize=1000)
def _spellings(secret: str) -> tuple[Collection[str], Collection[str]]:
    """Spellings of a secret in URLs, JSON and HTML, the longest first; and its part in any base64."""
    return sorted(set(_escaped(secret)), key=len, reverse=True), set(_encoded(secret.encode()))


def _escaped(secret: str) -> Iterator[str]:
    yield from (secret, secret.upper(), secret.lower())
    for in_address in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield in_address
        yield re.sub(r"%..", lambda code: code[0].lower(), in_address)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield html.escape(secret)


def _encoded(secret: bytes) -> Iterator[str]:
    """Its base64 letters that do not depend on the bytes around it, for each offset in a group of three."""
    for before in range(3):
        letters = base64.b64encode(bytes(before) + secret).decode()
        certain = letters[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield certain
        yield certain.replace("+", "-").replace("/", "_")
