"""Remove keys and the prompt from texts that go into Temporal's history.

Operators need a provider's message, but it may repeat the key, an address with a key, or half of the prompt. Everyone
with access to the namespace can read the history.
"""

import re
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, Final

from durable_llm.contract.facts import TEXT_LIMIT
from durable_llm.contract.key_reference import redact_literal_keys
from durable_llm.contract.ledger import clip

from .known_secrets import KEY_MARK, LONG_SECRET, SHORTEST_PART, KnownSecrets

CURRENT_PROMPT: ContextVar[Any] = ContextVar("prompt", default=None)
"""The messages of the running attempt, to be kept out of the log."""

PROMPT_MARK: Final = "[prompt]"
ECHO_CHARS: Final = 24
"""Characters that a text shares with the prompt to count as its echo."""

NAME_LIMIT: Final = 200
_PROMPT_CHARS: Final = 256 * 1024
_TEXT_CHARS: Final = 4 * TEXT_LIMIT
_VALUE = r"[^\s\"'&,;)}\]]{4,}"
_SIGN = r"[\"']?\s*[=:]\s*[\"']?"
_NAME = r"(?:api[-_]?key|(?<=[?&])key|access[-_]?token|[?&]token|secret|password|signature|x-goog-api-key|x-api-key)"
_PATTERNS: Final = (
    (re.compile(rf"(?i)({_NAME}{_SIGN}){_VALUE}"), rf"\1{KEY_MARK}"),  # in URLs, in JSON and in prose
    (re.compile(rf"(?i)(authorization{_SIGN}(?:bearer|basic|token)?\s*){_VALUE}"), rf"\1{KEY_MARK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=*-]{8,}"), rf"\1 {KEY_MARK}"),
    # A masked key: a few characters, stars or dots, a few characters ("sk-ab***yz", "AIza...Qx8c").
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++\*{3,}[A-Za-z0-9_-]*|\*{4,}[A-Za-z0-9_-]+"), KEY_MARK),
    (re.compile(r"\b(?:sk|pk|gsk|xai|hf|key|AIza)[-_A-Za-z0-9]{0,100}(?:\.{3}|…)[A-Za-z0-9_-]*"), KEY_MARK),
)


class Scrubber:
    """Cleans the texts of one attempt.

    Args:
        secrets: Credential values that the worker knows.
        prompt: The prompt's messages. Their texts are removed.
    """

    def __init__(self, secrets: Collection[str] = (), prompt: Any = None) -> None:
        self._known = KnownSecrets(secrets)
        self._prompt = prompt

    def clean(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """`text` without keys and without prompt text, at most `limit` UTF-8 bytes."""
        if not text:
            return ""
        return clip(self._without_prompt(self._without_keys(text)), limit)

    def clean_hint(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """A text of our own without the worker's keys. It says what to set, so nothing else is cut."""
        return clip(redact_literal_keys(self._known.cut_whole(text), KEY_MARK), limit)

    def clean_name(self, name: str) -> str:
        """A provider's id or name without keys."""
        return clip(self._without_keys(name), NAME_LIMIT)

    def finds_key(self, name: str) -> bool:
        """Whether a provider's id or name holds a key or a part of one."""
        return self._without_keys(name) != name

    def clean_all(self, texts: Collection[str], limit: int = 200) -> list[str]:
        """`clean` for each of `texts`."""
        return [self.clean(text, limit) for text in texts]

    def clean_document(self, document: str) -> str:
        """A JSON document without the worker's long keys. Nothing else is cut, because its values may be any text."""
        return self._known.cut_whole(document, shortest=LONG_SECRET)

    def _without_keys(self, text: str) -> str:
        text = self._known.cut_whole(text)  # before the cut, which could leave an unrecognisable part of a key
        return self._without_key_shapes(self._without_parts(text[:_TEXT_CHARS]))

    def _without_parts(self, text: str) -> str:
        text = self._known.cut_masked(text)
        return _cut(text, _merge(_echoes(text, "\n".join(self._known.long_words), SHORTEST_PART)), KEY_MARK)

    def _without_key_shapes(self, text: str) -> str:
        text = redact_literal_keys(text, KEY_MARK)
        for pattern, mark in _PATTERNS:
            text = pattern.sub(mark, text)
        return text

    def _without_prompt(self, text: str) -> str:
        if len(text) < ECHO_CHARS or self._prompt is None:
            return text
        prompt = "\n".join(_texts(self._prompt))[:_PROMPT_CHARS]
        return _cut(text, _merge(_echoes(text, prompt, ECHO_CHARS)), PROMPT_MARK)


def _texts(value: Any) -> Iterator[str]:
    """The strings in messages that are long enough to recognise."""
    if isinstance(value, str):
        if len(value) >= ECHO_CHARS:
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _echoes(text: str, source: str, shortest: int) -> Iterator[tuple[int, int]]:
    """Spans of `text` that occur in `source`, of at least `shortest` characters.

    Every such substring contains at least one aligned block of the source of half its length. Looking blocks up takes
    milliseconds. Comparing all windows would take seconds.
    """
    size = shortest // 2
    blocks: dict[str, list[int]] = {}
    for start in range(0, len(source) - size + 1, size):
        blocks.setdefault(source[start : start + size], []).append(start)
    done = 0
    for at in range(len(text) - size + 1):
        if at < done:
            continue
        for start in blocks.get(text[at : at + size], ())[:50]:
            first, last = _extend(text, at, source, start, size)
            if last - first >= shortest:
                done = max(done, last - size)
                yield first, last


def _extend(text: str, at: int, source: str, start: int, size: int) -> tuple[int, int]:
    """The longest span of `text` around `at` that equals the source around `start`, from `size` equal characters."""
    before = 0
    while before < min(at, start) and text[at - before - 1] == source[start - before - 1]:
        before += 1
    after = size
    while at + after < len(text) and start + after < len(source) and text[at + after] == source[start + after]:
        after += 1
    return at - before, at + after


def _merge(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _cut(text: str, spans: list[tuple[int, int]], mark: str) -> str:
    for first, last in reversed(spans):
        text = text[:first] + mark + text[last:]
    return text
