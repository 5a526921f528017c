"""A worker whose event loop hangs ends by itself, and one that works does not block its loop at its first attempt."""

import base64
import signal
import subprocess
import sys

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from durable_llm.contract.names import ATTEMPT_FAILED
from durable_llm.encryption.codec import data_converter
from tests.support import ROOT

HANGS = """
import asyncio, time
from workers.watchdog import watching_the_loop

async def main():
    async with watching_the_loop(1.0):
        await asyncio.sleep(1.5)
        print("turns", flush=True)
        {hang}
        print("survived", flush=True)

asyncio.run(main())
"""
WARM = """
import asyncio, time
from activities.attempt import ProviderAttempts
from tests.support.attempts import ReachableServer, attempt, order, ring
from tests.support.wire import playing

async def main():
    longest = 0.0

    async def turn():
        nonlocal longest
        while True:
            began = time.process_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.process_time() - began)

    await ProviderAttempts(ring(), server=ReachableServer()).warm_up()
    turning = asyncio.create_task(turn())
    message = {"role": "assistant", "content": "two"}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    async with playing({"body": body}) as wire:
        await attempt(order("openai/m", wire.url))
    turning.cancel()
    print(longest)

asyncio.run(main())
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    "hang", ["time.sleep(60)", "import re; re.match('(a+)+$', 'a' * 60 + '!')"], ids=["blocks", "holds the lock"]
)
def test_a_loop_that_hangs_ends_the_process(hang: str) -> None:
    """Its stacks are printed, and a supervisor starts it again; code that holds Python's lock cannot prevent it."""
    ended = program(HANGS.format(hang=hang))
    assert ended.returncode in (1, -signal.SIGPROF)
    assert ended.stdout == "turns\n"
    assert "most recent call first" in ended.stderr


def test_a_loop_that_turns_is_left_alone() -> None:
    """However long the block runs."""
    ended = program(HANGS.format(hang="await asyncio.sleep(1.5)"))
    assert (ended.returncode, ended.stdout) == (0, "turns\nsurvived\n")


@pytest.mark.proof
def test_the_first_attempt_of_a_warm_worker_blocks_nothing() -> None:
    """Litellm's first request takes 0.3 s of CPU; the worker spends it before it polls."""
    ended = program(WARM)
    assert float(ended.stdout) < 0.2, ended.stderr


@pytest.mark.parametrize(
    ("kind", "shown"), [("AllModelsExhaustedError", False), (ATTEMPT_FAILED, False), ("Bug", True)]
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_failure_of_a_call_has_our_words_and_no_stack(kind: str, shown: bool, encrypted: bool) -> None:
    """Operators read the provider's reason, not the SDK's code; a bug keeps its stack."""
    environment = {"DURABLE_LLM_ENCRYPTION_KEYS": f"a={base64.b64encode(bytes(32)).decode()}"} if encrypted else {}
    converter, failure = data_converter(environment), Failure()
    try:
        raise ApplicationError("no such key", type=kind)
    except ApplicationError as error:
        await converter.encode_failure(error, failure)
    read = await converter.decode_failure(failure)
    assert str(read).endswith("no such key")
    assert bool(failure.stack_trace) is (shown and not encrypted)
