"""Run a batch: the one activity of its workflow."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.exceptions import ApplicationError

from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.many import at_once
from durable_llm.client.tokens import Token
from durable_llm.errors import (
    CallCancelledError,
    DeadlineExceededError,
    DecryptionError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
)

from ..access import Chains, RefusedError
from ..problems import problem_of
from ..wires.wire import openai_error
from .files import Files
from .lines import Line, read_lines
from .workflow import RUN_BATCH, BatchCounts, BatchEnd, BatchOrder

_AT_ONCE: Final = 100
"""Calls of one batch in flight."""

BEAT: Final = timedelta(seconds=2)
"""How often a batch tells how far it is, and hears that it has been cancelled."""


@dataclass(frozen=True)
class _Ended:
    line: Line
    answer: dict[str, Any] | None = None
    error: DurableLLMError | None = None


class Batches:
    """Runs batches.

    Args:
        dispatcher: Makes the calls.
        chains: What stands behind the names of models.
        files: Where batches are read and written.
    """

    def __init__(self, dispatcher: Dispatcher, chains: Chains, files: Files) -> None:
        self._dispatcher = dispatcher
        self._chains = chains
        self._files = files

    @activity.defn(name=RUN_BATCH)
    async def run(self, order: BatchOrder) -> BatchEnd:
        """Ask all lines, and keep their answers. Run again, it attaches to the calls of the first run."""
        lines = await self._lines(order)
        ended: list[_Ended] = []
        cancelled = False
        beating = asyncio.create_task(_beat(ended))
        try:
            async for each in self._ask_all(lines, order):
                ended.append(each)  # noqa: PERF401  # heartbeats count it while it grows
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise  # this front stops; another one goes on
            cancelled = True
            await asyncio.shield(self._cancel(lines, ended, order))
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        return await asyncio.shield(self._keep(ended, order, cancelled=cancelled))

    async def _lines(self, order: BatchOrder) -> list[Line]:
        """The lines, which were checked when the batch was made.

        Raises:
            ApplicationError: the file is gone, or a chain; another run would find the same.
        """
        caller = Token("", order.tenant, None if order.chains is None else tuple(order.chains))
        try:
            file = await self._files.get(order.tenant, order.input_file)
            return read_lines(file.text, order.endpoint, self._chains, caller)
        except (RefusedError, InvalidRequestError) as error:
            raise ApplicationError(error.message, non_retryable=True) from None

    async def _ask_all(self, lines: Sequence[Line], order: BatchOrder) -> AsyncIterator[_Ended]:
        async def ask(line: Line) -> _Ended:
            try:
                return _Ended(line, await line.ask(self._dispatcher, _call_id(order, line), order.deadline))
            except (DispatcherUnavailableError, DecryptionError):
                raise  # nothing is wrong with the line; the batch is run again
            except DurableLLMError as error:
                return _Ended(line, error=error)

        async with aclosing(at_once(ask, lines, concurrency=_AT_ONCE)) as results:
            async for each in results:
                yield each

    async def _cancel(self, lines: Sequence[Line], ended: Sequence[_Ended], order: BatchOrder) -> None:
        """Cancel the calls that run."""
        done = {each.line.custom_id for each in ended}

        async def cancel(line: Line) -> None:
            with suppress(DurableLLMError):
                await self._dispatcher.attach(_call_id(order, line)).cancel()

        left = [line for line in lines if line.custom_id not in done]
        async with aclosing(at_once(cancel, left, concurrency=_AT_ONCE)) as each:
            async for _ in each:
                pass

    async def _keep(self, ended: Sequence[_Ended], order: BatchOrder, *, cancelled: bool) -> BatchEnd:
        counts = _counts(ended)
        answers = [_written(order, each, 200, each.answer) for each in ended if each.answer is not None]
        errors = [_error(order, each, each.error) for each in ended if each.error is not None]
        expired = any(isinstance(each.error, DeadlineExceededError) for each in ended) or (
            counts.failed > 0 and datetime.now(UTC) >= order.deadline
        )
        return BatchEnd(
            **counts.model_dump(), output_file=await self._put(order, "output", answers),
            error_file=await self._put(order, "error", errors), expired=expired, cancelled=cancelled,
        )  # fmt: skip

    async def _put(self, order: BatchOrder, kind: str, lines: Sequence[str]) -> str | None:
        if not lines:
            return None
        name = f"{order.batch_id}_{kind}.jsonl"
        file_id, _ = await self._files.put(order.tenant, name, "batch_output", "\n".join(lines) + "\n")
        return file_id


async def _beat(ended: Sequence[_Ended]) -> None:
    """Tell Temporal that the batch is alive, and how far it is."""
    while True:
        activity.heartbeat(_counts(ended))
        await asyncio.sleep(BEAT.total_seconds())


def _counts(ended: Sequence[_Ended]) -> BatchCounts:
    failed = sum(each.error is not None for each in ended)
    return BatchCounts(completed=len(ended) - failed, failed=failed)


def _call_id(order: BatchOrder, line: Line) -> str:
    return f"{order.tenant}/{order.batch_id}/{line.custom_id}"


def _written(order: BatchOrder, ended: _Ended, status: int, body: Any) -> str:
    """A line of a batch's output, in OpenAI's shape."""
    call_id = _call_id(order, ended.line)
    response = {"status_code": status, "request_id": call_id, "body": body}
    return json.dumps(
        {"id": f"batch_req_{call_id}", "custom_id": ended.line.custom_id, "response": response, "error": None}
    )


def _error(order: BatchOrder, ended: _Ended, error: DurableLLMError) -> str:
    """A line of a batch's errors: as its endpoint would have answered, or why it was not asked to its end."""
    problem = problem_of(error)
    if not isinstance(error, CallCancelledError | DeadlineExceededError):
        return _written(order, ended, problem.status, openai_error(problem))
    code = "batch_expired" if isinstance(error, DeadlineExceededError) else "batch_cancelled"
    call_id = _call_id(order, ended.line)
    return json.dumps({
        "id": f"batch_req_{call_id}", "custom_id": ended.line.custom_id, "response": None,
        "error": {"code": code, "message": problem.message},
    })  # fmt: skip
