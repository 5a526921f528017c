"""Texts to vectors, in batches that are durable calls of their own: after a crash no answered batch is asked again.

A batch's id comes from the caller's id and the batch's content. A rerun with the same texts attaches to each batch.
"""

import asyncio
import hashlib
import itertools
import json
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from durable_llm.client.batches import batches
from durable_llm.client.handle import CallHandle
from durable_llm.contract.categories import Category
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.result import LLMResult
from durable_llm.contract.vectors import Vectors
from durable_llm.errors import (
    AllModelsExhaustedError,
    DurableLLMError,
    InvalidRequestError,
    RequestRejectedError,
    TextsRejectedError,
)

if TYPE_CHECKING:
    import numpy

MOST_REJECTED: Final = 20
"""Rejected texts after which the rest is not looked for: then the provider most likely refuses them all."""

_OF_THE_TEXT: Final = frozenset({
    Category.CONTEXT_WINDOW, Category.TOO_LARGE, Category.REFUSED, Category.PROVIDER_LIMIT, Category.LENGTH,
    Category.INVALID_REQUEST, Category.UNRECOGNISED,
})  # fmt: skip
"""Failures that one text of a batch may have caused."""

Submit = Callable[[LLMConfig, Sequence[str], str], Awaitable[CallHandle]]
"""Submits a batch: a chain, the texts, the batch's id."""


_Answered = tuple[LLMResult, "list[array[float]]"]
"""A batch's result without its vectors, and the vectors."""


@dataclass(frozen=True)
class Embeddings:
    """The vectors of texts.

    Attributes:
        vectors: One for each text, in their order; 32-bit floats.
        calls: The results of the batches, in order, each with its ledger and without its vectors.
    """

    vectors: "list[array[float]]"
    calls: list[LLMResult]

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return len(self.vectors[0])

    @property
    def model(self) -> str | None:
        """The model, as the provider names it."""
        return self.calls[0].model

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all texts, as far as providers counted them."""
        return sum(call.usage.prompt_tokens for call in self.calls if call.usage)

    @property
    def total_cost(self) -> float:
        """USD, the known part of all attempts."""
        return sum(call.total_cost for call in self.calls)

    @property
    def cost_complete(self) -> bool:
        """Whether every attempt's cost is known."""
        return all(call.cost_complete for call in self.calls)

    @property
    def attempts_total(self) -> int:
        """Attempts of all batches."""
        return sum(call.attempts_total for call in self.calls)

    def numpy(self) -> "numpy.ndarray":
        """The vectors as an array of float32 with a row for each text.

        Raises:
            ImportError: NumPy is not installed.
        """
        import numpy  # noqa: PLC0415  # only for this

        return numpy.stack([numpy.frombuffer(vector, dtype=numpy.float32) for vector in self.vectors])


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts, if each can be embedded.

    Raises:
        InvalidRequestError: there are none, or one is empty or no text; names it.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise InvalidRequestError("texts: expected a list of texts that is not empty")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InvalidRequestError(f"texts[{place}]: expected a text that is not empty")
    return list(texts)


def one_model_each(config: LLMConfig, *, mixed_models: bool) -> list[LLMConfig]:
    """The chain in parts that name the same model each, at other accounts or hosts.

    Vectors of two models cannot be compared, so all vectors of a call come from one part.

    Raises:
        InvalidRequestError: there are several parts, and the caller has not allowed that.
    """
    parts = [list(specs) for _, specs in itertools.groupby(config.models, lambda spec: _model(spec.name))]
    if len(parts) > 1 and not mixed_models:
        raise InvalidRequestError(
            f"config: names {len(parts)} models ({', '.join(part[0].name for part in parts)}), and their vectors "
            "cannot be compared; name one model, or pass mixed_models=True: then the next one embeds all texts again"
        )
    return [config.model_copy(update={"models": part}) for part in parts]


def _model(name: str) -> str:
    return name.rpartition("/")[2].lower()


class Embedding:
    """Embeds texts with one chain.

    Args:
        submit: Submits a batch.
        unstore: Fetches vectors that are in the store.
        call_id: Begin of the batches' ids.
        chain: The chain; its specs name the same model.
        concurrency: Batches in flight at once.
    """

    def __init__(
        self, submit: Submit, unstore: Callable[[Vectors], Awaitable[Vectors]], call_id: str, chain: LLMConfig,
        concurrency: int,
    ) -> None:  # fmt: skip
        self._submit = submit
        self._unstore = unstore
        self._call_id = call_id
        self._chain = chain
        self._slots = asyncio.Semaphore(concurrency)
        self._rejected: dict[int, RequestRejectedError | AllModelsExhaustedError] = {}
        self.running: set[str] = set()
        """Ids of batches that have not ended."""

    async def run(self, texts: Sequence[str], batch_size: int | None) -> Embeddings:
        """All vectors.

        Raises:
            TextsRejectedError: providers reject some texts; names each.
            DurableLLMError: how a batch ended, as `CallHandle.result` raises it.
        """
        names = [spec.name for spec in self._chain.models]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._batch(texts[places.start : places.stop], places.start))
                for places in batches(texts, names, batch_size)
            ]
        if self._rejected:
            raise self._rejection()
        answered = [batch for task in tasks for batch in task.result()]
        vectors = [vector for _, rows in answered for vector in rows]
        sizes = sorted({len(vector) for vector in vectors})
        if len(sizes) > 1:
            raise DurableLLMError(
                f"the model gave vectors of {' and '.join(map(str, sizes))} dimensions; pass dimensions, so that other "
                "answers are refused and asked again", call_id=self._call_id,
            )  # fmt: skip
        return Embeddings(vectors, [call for call, _ in answered])

    async def _batch(self, texts: Sequence[str], first: int) -> list[_Answered]:
        """The answers for these texts. If they are rejected together, halves find out which of them are."""
        try:
            async with self._slots:
                return [await self._call(texts)]
        except (RequestRejectedError, AllModelsExhaustedError) as error:
            last = error.attempts[-1] if error.attempts else None
            if last is None or (last.http_status or 0) < 400 or last.category not in _OF_THE_TEXT:
                raise
            if len(texts) == 1:
                self._rejected[first] = error
                return []
        middle = len(texts) // 2
        answered = []
        for places in (slice(0, middle), slice(middle, None)):
            if len(self._rejected) < MOST_REJECTED:
                answered += await self._batch(texts[places], first + (places.start or 0))
        return answered

    async def _call(self, texts: Sequence[str]) -> _Answered:
        batch_id = f"{self._call_id}/{_name(texts)}"
        self.running.add(batch_id)
        result = await (await self._submit(self._chain, texts, batch_id)).result()
        self.running.discard(batch_id)
        if result.vectors is None:
            raise DurableLLMError("a worker has answered without vectors", call_id=batch_id)
        rows = (await self._unstore(result.vectors)).rows()
        return result.model_copy(update={"vectors": None}), rows

    def _rejection(self) -> TextsRejectedError:
        texts = {place: error.last_error or error.message for place, error in sorted(self._rejected.items())}
        named = "; ".join(f"texts[{place}]: {reason}" for place, reason in itertools.islice(texts.items(), 3))
        more = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
        first = self._rejected[min(texts)]
        return TextsRejectedError(
            f"providers reject {len(texts)} of the texts; {named}{more}", texts=texts, last_error=first.last_error,
            call_id=self._call_id, attempts=first.attempts,
        )  # fmt: skip


async def embed_with_one_of(
    chains: Sequence[LLMConfig], embedding_with: Callable[[LLMConfig], Embedding], texts: Sequence[str],
    batch_size: int | None,
) -> Embeddings:  # fmt: skip
    """The vectors of the first chain whose models answer for every text.

    Raises:
        DurableLLMError: how the last chain ended.
    """
    for chain in chains[:-1]:
        try:
            return await _run(embedding_with(chain), texts, batch_size)
        except (AllModelsExhaustedError, RequestRejectedError):
            continue
    return await _run(embedding_with(chains[-1]), texts, batch_size)


async def _run(embedding: Embedding, texts: Sequence[str], batch_size: int | None) -> Embeddings:
    try:
        return await embedding.run(texts, batch_size)
    except ExceptionGroup as group:
        raise next(_leaves(group)) from None


def _leaves(group: BaseException) -> Iterator[Any]:
    if isinstance(group, ExceptionGroup):
        for error in group.exceptions:
            yield from _leaves(error)
    else:
        yield group


def _name(texts: Sequence[str]) -> str:
    """A batch's part of its id."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:20]
