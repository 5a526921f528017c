"""Run validators and tool parsers, which are foreign code, away from the worker's event loop.

Plain functions get a thread, async ones a separate event loop. So they cannot block heartbeats; without heartbeats
Temporal counts the worker as lost, and the answer is paid for again. C code that holds the GIL (a runaway `re`) still
can.
"""

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

from durable_llm.contract.ledger import clip
from durable_llm.contract.validation import Rejected

DEFAULT_TIMEOUT_S: Final = 30.0
_REASON_BYTES: Final = 400

_Outcome = tuple[Any, BaseException | None]


class RejectedAnswerError(Exception):
    """A function rejected the answer. The text names it and says why."""


class BrokenFunctionError(Exception):
    """A function failed. The text names it and says how."""


class Runner:
    """Runs functions with a time limit.

    Args:
        timeout_s: Time limit of one function in seconds.
    """

    def __init__(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, label: str, function: Callable[..., Any], *arguments: Any, **parameters: Any) -> Any:
        """The result of `function`.

        Args:
            label: Its name in reasons: "validator 'regex'".
            function: Plain or async.
            *arguments: Its arguments.
            **parameters: Its keyword arguments.

        Raises:
            RejectedAnswerError: it raised Rejected, ValueError or AssertionError.
            BrokenFunctionError: it raised anything else, or took too long.
        """
        start = self._in_loop if _is_async(function) else _in_thread
        running = asyncio.wrap_future(start(lambda: function(*arguments, **parameters)))
        try:
            value, error = await asyncio.wait_for(running, self._timeout_s)
        except TimeoutError:
            raise BrokenFunctionError(f"{label} did not end within {self._timeout_s:g} s") from None
        if isinstance(error, Rejected | ValueError | AssertionError):
            raise RejectedAnswerError(_because(label, error)) from None
        if error is not None:
            raise BrokenFunctionError(f"{label} raised {type(error).__name__}{_text(error)}") from None
        if inspect.isawaitable(value):
            raise BrokenFunctionError(f"{label} returned a coroutine; write it as 'async def'")
        return value

    def _in_loop(self, work: Callable[[], Awaitable[Any]]) -> "concurrent.futures.Future[_Outcome]":
        """Start an async function in the shared loop, which has its own thread."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="async-validators", daemon=True).start()

        async def settled() -> _Outcome:
            try:
                return await work(), None
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # SystemExit too is a failure of the validator
                return None, error

        return asyncio.run_coroutine_threadsafe(settled(), self._loop)


def _in_thread(work: Callable[[], Any]) -> "concurrent.futures.Future[_Outcome]":
    """Start a plain function in a new thread, so that one that never ends does not block the next."""
    future: concurrent.futures.Future[_Outcome] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()

    def settle() -> None:
        try:
            outcome: _Outcome = (work(), None)
        except BaseException as error:  # as above
            outcome = (None, error)
        future.set_result(outcome)

    threading.Thread(target=settle, name="validator", daemon=True).start()
    return future


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # asks for its kind


def _because(label: str, error: BaseException) -> str:
    return f"{label}{_text(error) or ': rejected'}"


def _text(error: BaseException) -> str:
    text = clip(" ".join(str(error).split()), _REASON_BYTES)
    return f": {text}" if text else ""
