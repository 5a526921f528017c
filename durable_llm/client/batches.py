"""How texts are put into requests: in order, within what a provider takes at once and what Temporal keeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

MOST_TEXTS: Final = 48
"""Texts of a request. Cohere takes 96, Gemini 100, OpenAI 2,048. 48 vectors of 2,000 components are as much as Temporal
takes without a warning, and 48 of 6,000 as much as it takes."""

TOKENS: Final[Mapping[str, int]] = {"openai": 300_000, "azure": 300_000, "voyage": 120_000, "mistral": 16_000}
"""Tokens of a request, by provider. OpenAI's: https://platform.openai.com/docs/api-reference/embeddings/create"""

OTHER_TOKENS: Final = 100_000
BYTES_PER_TOKEN: Final = 3
"""Of UTF-8. English text has more than four, so this stays below a provider's limit."""

ONE_TEXT: Final = ("vertex_ai/gemini-embedding", "bedrock/amazon.titan-embed")
"""Models that take one text a request."""


def batches(texts: Sequence[str], models: Sequence[str], most_texts: int | None = None) -> Iterator[range]:
    """The texts' places, batch by batch.

    Args:
        texts: The texts.
        models: Names of the models that may be asked; each batch fits them all.
        most_texts: Texts of a batch. None: MOST_TEXTS, or 1 for a model that takes no more.
    """
    if most_texts is None:
        most_texts = 1 if any(model.startswith(ONE_TEXT) for model in models) else MOST_TEXTS
    most_bytes = min(TOKENS.get(model.partition("/")[0], OTHER_TOKENS) for model in models) * BYTES_PER_TOKEN
    first, size = 0, 0
    for place, text in enumerate(texts):
        added = len(text.encode(errors="replace"))
        if place > first and (place - first >= most_texts or size + added > most_bytes):
            yield range(first, place)
            first, size = place, 0
        size += added
    if texts:
        yield range(first, len(texts))
