"""Child processes that never outlive this process.

Ctrl-C in a terminal must end the development stack's processes in the right order. So each child has its own session
and does not get the terminal's signals. On Linux the kernel kills the children if this process is killed.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Self

GRACE_S: Final = 10.0
"""Seconds between SIGTERM and SIGKILL."""

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_LINES: Final = 12
_LINE_BYTES: Final = 1_000_000

# prctl(PR_SET_PDEATHSIG) must run in the child and outlives exec. A preexec_fn would run between fork and exec, where a
# process with the SDK's threads may deadlock. So a small interpreter calls it and then execs the program.
_DIE_WITH_PARENT: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class StackError(Exception):
    """The development stack cannot run. The text says why and what to change."""


class Child:
    """A child process and its last lines of output.

    Attributes:
        name: Its name in messages.
        pid: Its process id.
    """

    def __init__(self, name: str, process: Process, on_line: Callable[[str], None] | None) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Self:
        """Start `command`.

        Args:
            name: Its name in messages.
            command: Program and arguments.
            env: Changes to this process's environment. None removes a variable.
            on_line: Called with each line of its output.
        """
        process = await asyncio.create_subprocess_exec(
            *_dying_with_parent(command), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, limit=_LINE_BYTES,
            env=_environment(env or {}), start_new_session=True,
        )  # fmt: skip
        return cls(name, process, on_line)

    @property
    def returncode(self) -> int | None:
        """Its exit code. None while it runs."""
        return self._process.returncode

    @property
    def last_lines(self) -> str:
        """The last lines of its output."""
        return "\n".join(self._tail)

    async def wait(self) -> int:
        """Wait for its end and its output. Returns the exit code."""
        code = await self._process.wait()
        await asyncio.wait([self._reading], timeout=1.0)  # a grandchild may hold the pipe open
        return code

    async def stop(self, grace_s: float = GRACE_S) -> int:
        """End it with SIGTERM, and with SIGKILL after `grace_s` seconds or when this task is cancelled."""
        try:
            self.signal(signal.SIGTERM)
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            return await self.wait()
        finally:
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            self._process.send_signal(number)

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it was started with a pipe
        while True:
            try:
                raw = await self._process.stdout.readline()
            except ValueError:  # drop a line beyond the limit and read on
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            if self._on_line is not None:
                self._on_line(line)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, "PYTHONUNBUFFERED": "1", **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _dying_with_parent(command: Sequence[str]) -> list[str]:
    """`command`, which the kernel kills when this process dies (Linux only)."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


@contextmanager
def cancelled_by_signals() -> Iterator[list[signal.Signals]]:
    """Cancel the current task on SIGINT, SIGTERM and SIGHUP. Yields the signals that came.

    A second signal cancels the clean-up too: it then kills instead of waiting.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # coroutines run in tasks
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        task.cancel()

    for number in _STOPPING:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield received
    finally:
        for number in _STOPPING:
            loop.remove_signal_handler(number)
