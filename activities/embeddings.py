"""Embed texts: ask an embedding model, check its vectors, and keep them where they fit."""

import asyncio
import base64
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.converter import DataConverter

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault
from durable_llm.contract.request import MAX_ANSWER_BYTES, STORED_BYTES, Prompt
from durable_llm.contract.result import Answer
from durable_llm.contract.vectors import Vectors
from durable_llm.store import STORE_VARIABLE, Store, StoreError
from durable_llm.store.content import put_content, to_content

from .answer.cost import cost_of
from .answer.defects import Defect, body_defect
from .answer.read import read_usage
from .litellm_openai import ask_for_embeddings
from .litellm_setup import FIXED_ARGUMENTS, litellm, vector_size
from .read_response import facts_of_failure, facts_of_rejected_answer
from .request.openai_wire import openai_embeddings
from .secrets.scrub import Scrubber
from .wire.exchange import Exchange, recording
from .wire.mend import has_sound_usage

STORE_WITHIN: Final = timedelta(minutes=2)
"""How long the store may take to keep vectors, which have been paid for."""

_NOT_FOR_EMBEDDINGS: Final = "_skip_mcp_handler"
"""litellm would send it to the provider."""


async def embed(spec: ModelSpecOnWire, provider: str, prompt: Prompt, api_key: str | None, exchange: Exchange) -> Any:
    """Send the attempt's one request. Returns litellm's response; the exchange's record says whether it is an answer.

    litellm and the OpenAI SDK make an object of each number of OpenAI's answer, for seconds in which no heartbeat is
    sent. So OpenAI's wire is read here, in a thread.

    Args:
        spec: The checked spec.
        provider: litellm's name of its provider.
        prompt: The texts.
        api_key: The key. None: the provider's own variables have it.
        exchange: The attempt's record.
    """
    texts = prompt.texts or []
    asked = {"dimensions": prompt.dimensions, "api_base": spec.api_base, "api_key": api_key}
    parameters = {**spec.extra_params, **{name: value for name, value in asked.items() if value is not None}}
    with recording(exchange):
        if provider == "openai":
            model = spec.name.removeprefix("openai/")
            await ask_for_embeddings(openai_embeddings(model, texts, parameters), model)
            return await asyncio.to_thread(_response, exchange)
        if provider == "azure":
            parameters = {"encoding_format": "base64", **parameters}
        fixed = {name: value for name, value in FIXED_ARGUMENTS.items() if name != _NOT_FOR_EMBEDDINGS}
        return await litellm.aembedding(model=spec.name, input=texts, **parameters, **fixed)


def _response(exchange: Exchange) -> Any:
    """Litellm's response for a body on OpenAI's wire."""
    value = exchange.json()
    fields = value if isinstance(value, Mapping) else {}
    model, usage = fields.get("model"), fields.get("usage")
    counted = usage if isinstance(usage, Mapping) and has_sound_usage(fields) else {}
    response = litellm.EmbeddingResponse(
        model=model if isinstance(model, str) else None,
        usage=litellm.Usage(prompt_tokens=counted.get("prompt_tokens"), total_tokens=counted.get("total_tokens")),
    )
    response.data = fields.get("data")
    return response


async def read_embeddings(
    response: Any, spec: ModelSpecOnWire, provider: str, prompt: Prompt, exchange: Exchange, scrubber: Scrubber
) -> Answer | FailureFacts:
    """The vectors in a response in the order of the texts, or the facts that say why they are not an answer.

    Raises:
        LocalFaultError: no request was recorded, so the origin of the response is unknown.
    """
    if (failed := facts_of_failure(exchange, scrubber, datetime.now(UTC))) is not None:
        return failed
    usage = read_usage(response)
    answer = Answer(
        model=scrubber.clean_name(response.model) if response.model else None,
        provider=provider, usage=usage, cost=cost_of(response, spec.name, usage), http_status=exchange.status,
        request_id=exchange.request_id and scrubber.clean_name(exchange.request_id),
    )  # fmt: skip
    found = await asyncio.to_thread(_vectors_or_defect, response.data, spec, prompt, exchange)
    if isinstance(found, Vectors):
        return answer.model_copy(update={"vectors": found})
    return facts_of_rejected_answer(found, answer, exchange, scrubber, datetime.now(UTC))


def _vectors_or_defect(data: Any, spec: ModelSpecOnWire, prompt: Prompt, exchange: Exchange) -> Vectors | Defect:
    value = exchange.json()
    if not isinstance(value, list) and (defect := body_defect(exchange.body, value, [])):
        return defect
    try:
        return _vectors(data, spec, prompt)
    except ValueError as error:
        return Defect(AnswerDefect.WRONG_VECTORS, None, str(error))


def _vectors(data: Any, spec: ModelSpecOnWire, prompt: Prompt) -> Vectors:
    """The vectors by their index.

    Raises:
        ValueError: one is missing, twice there or no vector, or all have another length than they should.
    """
    texts = prompt.texts or []
    entries = data if isinstance(data, Sequence) else []
    if len(entries) != len(texts):
        raise ValueError(f"{len(entries)} vectors for {len(texts)} texts")
    rows: dict[int, Any] = {}
    for place, entry in enumerate(entries):
        fields = entry if isinstance(entry, Mapping) else vars(entry)
        index = fields.get("index", place)
        if not isinstance(index, int) or not 0 <= index < len(texts) or index in rows:
            raise ValueError(f"the indexes of the vectors are not those of the texts: {index!r} at place {place}")
        rows[index] = _row(fields.get("embedding"))
        if not isinstance(rows[index], Sequence) or not rows[index]:
            raise ValueError(f"the vector of index {index} is not a list of numbers")
    try:
        vectors = Vectors.pack([rows[index] for index in range(len(texts))])
    except (TypeError, OverflowError):
        raise ValueError("a vector has a component that is not a number") from None
    wanted = prompt.dimensions or vector_size(spec.name)
    if wanted is not None and vectors.dimensions != wanted:
        raise ValueError(f"vectors of {vectors.dimensions} dimensions instead of {wanted}")
    return vectors


def _row(embedding: Any) -> Any:
    """A vector's components; with `encoding_format: base64` they are little-endian 32-bit floats."""
    if not isinstance(embedding, str):
        return embedding
    try:
        packed = base64.b64decode(embedding, validate=True)
    except ValueError:
        return None
    return struct.unpack(f"<{len(packed) // 4}f", packed) if len(packed) % 4 == 0 else None


class VectorKeeper:
    """Puts vectors that are too large for Temporal into the store.

    Args:
        store: The store. None: this worker has none.
        converter: Encodes them. None: the converter of the worker's client.
    """

    def __init__(self, store: Store | None, converter: DataConverter | None) -> None:
        self._store = store
        self._converter = converter

    async def keep(self, answer: Answer, exchange: Exchange) -> Answer | FailureFacts:
        """The answer with its vectors, or with a reference to them; facts if there is no place for them."""
        vectors = answer.vectors
        size = len((vectors and vectors.float32) or "")
        if vectors is None or size <= STORED_BYTES or (self._store is None and size <= MAX_ANSWER_BYTES):
            return answer
        if self._store is None:
            text = (
                f"the vectors take {size:,} bytes and the limit is {MAX_ANSWER_BYTES:,}; set {STORE_VARIABLE} here and "
                "for the clients, or pass a smaller batch_size"
            )
            return _not_kept(LocalFault.UNSUPPORTED, text, answer, exchange)
        try:
            reference = await self._stored(self._store, vectors)
        except StoreError as error:
            return _not_kept(LocalFault.STORE_UNAVAILABLE, str(error), answer, exchange)
        except TimeoutError:
            return _not_kept(LocalFault.STORE_UNAVAILABLE, f"{self._store.place} did not answer", answer, exchange)
        kept = vectors.model_copy(update={"float32": None, "stored": reference})
        return answer.model_copy(update={"vectors": kept})

    async def _stored(self, store: Store, vectors: Vectors) -> ContentReference:
        content = await to_content(self._converter or activity.client().data_converter, vectors)
        async with asyncio.timeout(STORE_WITHIN.total_seconds()):
            return await put_content(store, content, lambda _: None)


def _not_kept(fault: LocalFault, text: str, answer: Answer, exchange: Exchange) -> FailureFacts:
    """The facts of a paid answer that has no place."""
    return FailureFacts(
        http_status=exchange.status, text=text, local_fault=fault, request_id=answer.request_id,
        request_sent=exchange.sent, model=answer.model, usage=answer.usage, cost=answer.cost,
    )  # fmt: skip
