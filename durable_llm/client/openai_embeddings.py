"""OpenAI's embeddings: a request's body to texts, and vectors to a response's body.

The shapes are those of https://platform.openai.com/docs/api-reference/embeddings.
"""

import base64
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from durable_llm.client.embedding import Embeddings
from durable_llm.errors import InvalidRequestError

_FIELDS: Final = {"model", "input", "dimensions", "encoding_format", "user"}
_FORMATS: Final = ("float", "base64")


@dataclass(frozen=True)
class EmbeddingRequest:
    """What a body asks.

    Attributes:
        model: The model that it names.
        texts: What to embed.
        dimensions: Length of the vectors. None: the model's own.
        as_base64: Whether vectors are wanted as base64 of 32-bit floats, which OpenAI's clients ask for.
    """

    model: str
    texts: list[str]
    dimensions: int | None
    as_base64: bool


def read_embedding_request(body: object) -> EmbeddingRequest:
    """What `body` asks. The texts are checked when they are embedded.

    Raises:
        InvalidRequestError: it is no request for embeddings; names the field.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError("body: expected a JSON object")
    if unknown := sorted(body.keys() - _FIELDS):
        raise InvalidRequestError(f"body: unknown field {unknown[0]!r}")
    texts, form = body.get("input"), body.get("encoding_format") or "float"
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError("body: 'input' is a text or a list of texts; tokens are not supported")
    if form not in _FORMATS:
        raise InvalidRequestError(f"body: 'encoding_format' is one of {', '.join(_FORMATS)}")
    if not isinstance(model := body.get("model") or "", str):
        raise InvalidRequestError("body: 'model' is a name")
    return EmbeddingRequest(model, texts, body.get("dimensions"), form == "base64")


def embedding_list(found: Embeddings, *, as_base64: bool) -> dict[str, Any]:
    """Vectors as the body of a response."""
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(vector, as_base64=as_base64)}
        for index, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens}
    return {"object": "list", "data": data, "model": found.model, "usage": usage}


def _shown(vector: "array[float]", *, as_base64: bool) -> str | list[float]:
    return base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
