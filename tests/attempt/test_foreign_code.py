"""What callers and plugins wrote runs in processes that end: it keeps no worker busy, and others run meanwhile."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest

from activities.validation.runner import BrokenFunctionError, OutOfTimeError, RejectedAnswerError, Runner
from activities.validation.schema import check_schema, read_and_check
from durable_llm.contract.validation import Rejected
from tests.support import ROOT
from tests.support import hostile_functions as hostile


def nested(depth: int) -> dict:
    """A schema that is evaluated 2 ^ depth times."""
    schema: dict = {"const": 1}
    definitions = {"d0": schema}
    for level in range(1, depth):
        definitions[f"d{level}"] = {"allOf": [{"$ref": f"#/$defs/d{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/d{depth - 1}"}


ENDLESS = "a" * 60 + "!"
HOSTILE = [
    ({"patternProperties": {"^(a+)+$": {"type": "null"}}}, {ENDLESS: 1}),
    ({"patternProperties": {"^(a|a?)+$": {}}, "additionalProperties": False}, {ENDLESS: 1}),
    ({"properties": {"a": {"pattern": "^(a|a?)+$"}}}, {"a": ENDLESS}),
    ({"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False}, {ENDLESS: 1}),
    (nested(40), 1),
]


@pytest.mark.parametrize(("schema", "value"), HOSTILE, ids=["names", "additional", "pattern", "unevaluated", "allOf"])
async def test_a_check_ends_and_the_loop_goes_on(schema: dict, value: object) -> None:
    """Within its limit of CPU time, whatever is asked of it, and the event loop turns all the while."""
    longest, turning = 0.0, True

    async def turn() -> None:
        nonlocal longest
        while turning:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    loop = asyncio.create_task(turn())
    with pytest.raises(OutOfTimeError, match=r"schema did not end within 0\.5 s of CPU time"):
        await Runner().run("schema", read_and_check, [json.dumps(value), json.dumps(schema)], cpu_s=0.5)
    turning = False
    await loop
    assert longest < 0.5


FAILURES = [
    (hostile.spin, OutOfTimeError, "x did not end within 0.3 s"),
    (hostile.sleep, OutOfTimeError, "x did not end within 0.3 s"),
    (hostile.spin_async, OutOfTimeError, "x did not end within 0.3 s"),
    (hostile.ignore_cancelling, OutOfTimeError, "x did not end within 0.3 s"),
    (hostile.allocate, BrokenFunctionError, "x raised MemoryError"),
    (hostile.leave, BrokenFunctionError, "x ended its process with status 3"),
    (hostile.crash, BrokenFunctionError, "x ended its process with status -11"),
    (hostile.return_a_lock, BrokenFunctionError, "x returned lock, which cannot be sent"),
]


@pytest.mark.parametrize(("function", "error", "text"), FAILURES, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_function_harms_only_itself(function, error, text) -> None:
    """It is named and its failure is told; the next function runs as if nothing had been."""
    runner = Runner(timeout_s=0.3)
    with pytest.raises(error) as caught:
        await runner.run("x", function)
    assert str(caught.value).startswith(text)
    assert await runner.run("y", hostile.talk) == "talked"
    assert await runner.run("y", hostile.pause, [0.01]) == "paused"


async def test_async_functions_wait_side_by_side_and_survive_one_that_blocks() -> None:
    """They share a process. If one has to be killed with it, the others are run again."""
    runner = Runner(timeout_s=1.0)
    others = [asyncio.create_task(runner.run("y", hostile.pause, [0.5])) for _ in range(8)]
    await asyncio.sleep(0.2)
    with pytest.raises(OutOfTimeError):
        await runner.run("x", hostile.spin_async)
    assert await asyncio.gather(*others) == ["paused"] * 8


async def test_a_cancelled_function_is_ended() -> None:
    """Nobody waits for it, and its process is not used again."""
    runner = Runner()
    before = await runner.run("y", hostile.process_id)
    running = asyncio.create_task(runner.run("x", hostile.sleep))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(before).wait, 10)
    assert await runner.run("y", hostile.process_id) != before


async def test_what_was_printed_is_no_reply() -> None:
    """A function's output goes to the worker's log."""
    assert await Runner().run("x", hostile.talk) == "talked"


PARENT = """
import asyncio
from activities.validation.runner import Runner
from tests.support import hostile_functions as hostile

async def main():
    runner = Runner(timeout_s=0.5)
    print(await runner.run("y", hostile.process_id), flush=True)
    print("spins", flush=True)
    await Runner(timeout_s=%s).run("x", hostile.spin)

asyncio.run(main())
"""


async def test_processes_end_with_a_worker_that_is_killed() -> None:
    """Even one that keeps Python's lock, because a timer of the kernel ends it."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT % 2, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    assert await parent.stdout.readline() == b"spins\n"
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    await asyncio.to_thread(child.wait, 60)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": 1, "x": "y"}, {"n1": "one"}),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
        ({"patternProperties": {"^n": {}}, "unevaluatedProperties": False}, {"n1": 1}, {"x": 1}),
        ({"uniqueItems": True}, [1, "1", [1], {"a": 1}], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
        ({"uniqueItems": True}, [[number] for number in range(20_000)], [[1]] * 20_000),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
    ],
)
def test_keywords_mean_what_the_specification_says(schema: dict, good: object, bad: object) -> None:
    """`uniqueItems` is our own: jsonschema compares each item with each."""
    assert read_and_check(json.dumps(good), json.dumps(schema))[1] == good
    with pytest.raises(Rejected):
        read_and_check(json.dumps(bad), json.dumps(schema))


async def test_an_invalid_pattern_is_refused_before_anything_is_sent() -> None:
    """Under property names too."""
    with pytest.raises(RejectedAnswerError, match="pattern"):
        await Runner().run("x", check_schema, [json.dumps({"patternProperties": {"(": {}}})])
