"""Keys that this worker knows, found in a text however the text spells them.

A provider that refuses a key likes to repeat it: whole, escaped for an address or for JSON, in Basic authorization, cut
short, or with its middle masked. Whoever looks for the key itself finds the first of these only.
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
"""Characters from which a value is treated as a secret; shorter ones are parts of ordinary words."""

LONG_SECRET: Final = 20
"""Characters from which a secret is looked for in requests and answers too, and a part of it in error texts: a shorter
one may be an ordinary word."""

SHORTEST_PART: Final = 12
"""Characters of a long secret that count as the secret."""

_RUN = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_PASSWORD = re.compile(r"://[^/@\s]*:([^/@\s]+)@")
_BASE64: Final = "[A-Za-z0-9+/_-]"
_ONE_WORD = re.compile(r"[^\s{}\"'/][^\s{}\"']*")
_MASKED = re.compile(r"(?<![\w+~-])([\w+~-]{4,}+)(?:\*{2,}|\.{2,}|…+|•+|\Z)([\w+~-]*)")


def secrets_in(value: str) -> set[str]:
    """What has to stay secret of a credential: itself, and the long pieces of a document like Google's JSON."""
    return _worth({value, *_RUN.findall(value.replace("\\n", "\n"))})


def passwords_in(value: str) -> set[str]:
    """The passwords of addresses: a database's, a proxy's."""
    return _worth(set(_PASSWORD.findall(value)))


def _worth(values: Collection[str]) -> set[str]:
    return {value.strip() for value in values if len(value.strip()) >= SHORTEST_SECRET}


class KnownSecrets:
    """Secrets to look for.

    Args:
        secrets: The values, each of SHORTEST_SECRET characters at least.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)  # one that holds another goes first
        # Those of which a part counts as the whole: parts of paths and of documents are ordinary words.
        self.long_words = [s for s in self._secrets if len(s) >= LONG_SECRET and _ONE_WORD.fullmatch(s)]

    def cut_whole(self, text: str, shortest: int = 0) -> str:
        """`text` without whole secrets of at least `shortest` characters, in any spelling."""
        for secret in self._secrets:
            if len(secret) >= shortest:
                text = _without(secret, text)
        return text

    def cut_masked(self, text: str) -> str:
        """`text` without what is left of a secret whose middle is masked or whose end is cut off."""
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
        if core in text:  # with what was encoded together with it: a user's name, a colon
            text = re.sub(f"{_BASE64}*{re.escape(core)}{_BASE64}*={{0,2}}", KEY_MARK, text)
    return text


@lru_cache(maxsize=1000)
def _spellings(secret: str) -> tuple[Collection[str], Collection[str]]:
    """A secret as addresses, JSON and HTML write it, the longest first; and what of it any base64 shows."""
    return sorted(set(_escaped(secret)), key=len, reverse=True), set(_encoded(secret.encode()))


def _escaped(secret: str) -> Iterator[str]:
    yield secret
    for in_address in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield in_address
        yield re.sub(r"%..", lambda code: code[0].lower(), in_address)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield html.escape(secret)


def _encoded(secret: bytes) -> Iterator[str]:
    """The letters that do not depend on what stands before and after it, wherever in a group of three it begins."""
    for before in range(3):
        letters = base64.b64encode(bytes(before) + secret).decode()
        certain = letters[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        yield certain
        yield certain.replace("+", "-").replace("/", "_")
