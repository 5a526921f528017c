"""Functions that do what a validator should not do. Child processes import them."""

import asyncio
import os
import re
import signal
import time


def spin() -> None:
    """Keep Python's lock for ever, inside C."""
    re.match("^(a+)+$", "a" * 60 + "!")


def sleep() -> None:
    """Wait for ever."""
    time.sleep(10_000)


async def spin_async() -> None:
    """Keep the lock of the process that all async functions share."""
    spin()


async def pause(seconds: float) -> str:
    """Wait as an async function should."""
    await asyncio.sleep(seconds)
    return "paused"


async def ignore_cancelling() -> None:
    """Go on after its time limit."""
    while True:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            continue


def allocate() -> int:
    """Take all memory."""
    return len(bytearray(8 << 30))


def leave() -> None:
    """End the process."""
    os._exit(3)


def crash() -> None:
    """End the process as a fault in C code does."""
    os.kill(os.getpid(), signal.SIGSEGV)


def talk() -> str:
    """Print where replies are written."""
    print("not a reply", flush=True)
    os.write(1, b"nor this")
    return "talked"


def return_a_lock() -> object:
    """Return what cannot be sent."""
    import threading  # only here

    return threading.Lock()


def process_id() -> int:
    """The process that runs this."""
    return os.getpid()
