"""Run schemas, patterns, validators and tool parsers in child processes, which are killed when they take too long.

What a caller or a plugin wrote may loop for ever, keep Python's lock or take all memory. In a process of its own it
delays no heartbeat and no other call. A plain function has its process for itself. Async functions, which mostly wait,
share one; if it is blocked or ends, all that it ran are run again, each for itself.
"""

import asyncio
import os
import pickle
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .child import Reply, is_async
from .children import CHILDREN, ChildEndedError

DEFAULT_TIMEOUT_S: Final = 30.0

PROCESSES: Final = min(4, max(2, os.cpu_count() or 2))
"""Plain functions at once in one worker."""


class RejectedAnswerError(Exception):
    """A function rejected the answer. The text names it and says why."""


class BrokenFunctionError(Exception):
    """A function failed. The text names it and says how."""


class OutOfTimeError(BrokenFunctionError):
    """A function did not end within its limit."""


class Runner:
    """Runs functions with a time limit.

    Args:
        timeout_s: Time limit of one function in seconds.
    """

    def __init__(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(PROCESSES)

    async def run(
        self,
        label: str,
        function: Callable[..., Any],
        arguments: Sequence[Any] = (),
        parameters: Mapping[str, Any] | None = None,
        *,
        cpu_s: float | None = None,
    ) -> Any:
        """The result of `function`.

        Args:
            label: Its name in reasons: "validator 'regex'".
            function: Plain or async, at the top of a module.
            arguments: Its arguments.
            parameters: Its keyword arguments.
            cpu_s: Limit in seconds of its CPU time, if it is plain.

        Raises:
            RejectedAnswerError: it raised Rejected, ValueError or AssertionError.
            OutOfTimeError: it took too long.
            BrokenFunctionError: it raised anything else, or ended its process.
        """
        call = pickle.dumps((function, arguments, dict(parameters or {})))
        try:
            reply = await (self._together(call) if is_async(function) else self._alone(call, cpu_s))
        except TimeoutError:
            reply = Reply(0, "late")
        except ChildEndedError as error:
            if error.status == -signal.SIGPROF:
                raise OutOfTimeError(f"{label} did not end within {cpu_s:g} s of CPU time") from None
            raise BrokenFunctionError(f"{label} ended its process with status {error.status}") from None
        match reply.kind:
            case "late":
                raise OutOfTimeError(f"{label} did not end within {self._timeout_s:g} s")
            case "rejected":
                raise RejectedAnswerError(f"{label}{reply.value}")
            case "failed":
                raise BrokenFunctionError(f"{label} {reply.value}")
        return reply.value

    async def _alone(self, call: bytes, cpu_s: float | None = None) -> Reply:
        async with self._slots:
            child = await CHILDREN.take()
            try:
                reply = await child.run(call, self._timeout_s, cpu_s)
            except BaseException:  # cancelled too: the function may still run
                child.kill()
                raise
            CHILDREN.give_back(child)
            return reply

    async def _together(self, call: bytes) -> Reply:
        try:
            return await (await CHILDREN.shared()).run(call, self._timeout_s)
        except (TimeoutError, ChildEndedError):  # perhaps by another function
            return await self._alone(call)
