"""`make drill`: an operator's night. 400 calls are in flight and the primary provider fails for two minutes.

The operator looks at the fleet, skips the primary for half of the calls, finds the other half parked, extends their
deadline, holds the account, resumes them, and releases the account when the provider is back. Each command is typed as
an operator types it, and the transcript of it goes into docs/operations.md with --write. The status is 1 if a call was
lost or answered twice.
"""

import asyncio
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.client.handle import CallHandle
from durable_llm.contract import search_attributes
from durable_llm.encryption.codec import data_converter
from tests.support import ROOT
from tests.support.processes import ANSWER, SERVES, worker
from tests.support.wire import Wire, playing
from workers.dev.server import find_temporal

CALLS: Final = 400
DOWN_S: Final = 120.0
QUEUE: Final = "drill"
PRIMARY, SECONDARY = "openai/gpt-4o", "anthropic/claude-haiku-4-5"
PAGE: Final = ROOT / "docs" / "operations.md"
_MARKED: Final = re.compile(r"(<!-- transcript: make drill -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_PATIENT: Final = Policy(on_exhausted="park", patience=timedelta(minutes=30), backoff_cap=timedelta(seconds=60))
_SOON_PARKED: Final = Policy(on_exhausted="park", patience=timedelta(0))


class Provider:
    """The primary provider: down until `until`."""

    def __init__(self) -> None:
        self.until = time.monotonic() + DOWN_S
        self.answered: Counter[str] = Counter()

    def serve(self, body: dict[str, Any]) -> dict[str, Any]:
        """503 while it is down."""
        if time.monotonic() < self.until:
            return {"http_status": 503, "headers": {}, "body": {"error": {"message": "The server is overloaded"}}}
        self.answered[body["messages"][-1]["content"]] += 1
        return SERVES


class Transcript:
    """What the operator types, and what comes back."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = {**os.environ, **env, "COLUMNS": "100"}
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """A remark."""
        print(f"# {text}", flush=True)
        self.lines.append(f"# {text}")

    async def type(self, command: str, *, most: int = 12) -> str:
        """Run a command line of `durable-llm`, and keep at most so many lines of its output.

        Raises:
            RuntimeError: its exit code is not 0.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "durable_llm.cli", *shlex.split(command)[1:],
            env=self._env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out = (await process.communicate())[0].decode()
        if process.returncode:
            raise RuntimeError(f"{command}: {process.returncode}\n{out}")
        shown = [line.rstrip() for line in out.strip("\n").splitlines()]
        if len(shown) > most:
            shown = [*shown[: most - 2], "...", shown[-1]]
        self.lines += [f"$ {command}", *shown, ""]
        print("\n".join([f"$ {command}", *shown, ""]), flush=True)
        return out

    def write(self) -> None:
        """Put it into the page."""
        block = "```console\n" + "\n".join(self.lines).rstrip() + "\n```\n"
        PAGE.write_text(_MARKED.sub(lambda found: found[1] + block + found[3], PAGE.read_text()))


async def _submitted(dispatcher: Dispatcher, urls: Sequence[str], policy: Policy, session: str) -> list[CallHandle]:
    names = (PRIMARY, SECONDARY)[: len(urls)]
    patient = policy is _PATIENT
    config = LLMConfig(
        models=[
            ModelSpec(name=name, api_base=url, max_retries=20 if patient else 1)
            for name, url in zip(names, urls, strict=True)
        ]
    )
    return [
        await dispatcher.submit(
            config, f"{session}: what is {number} + {number}?", call_id=f"{session}/{number}", session=session,
            policy=policy,
        )
        for number in range(CALLS // 2)
    ]  # fmt: skip


async def _until(dispatcher: Dispatcher, query: str, count: int) -> None:
    while len(await dispatcher.find(query, CALLS + 1)) != count:
        await asyncio.sleep(0.5)


async def _night(
    operator: Transcript, dispatcher: Dispatcher, provider: Provider, other: Wire, url: str
) -> list[CallHandle]:
    """From the first call to the release."""
    web = await _submitted(dispatcher, [url, other.url], _PATIENT, "web")
    nightly = await _submitted(dispatcher, [url], _SOON_PARKED, "nightly")
    operator.say(f"{CALLS} calls are in flight, and {PRIMARY} answers 503")
    await _until(dispatcher, "LLMOutcome = 'parked'", CALLS // 2)
    await operator.type(f"durable-llm watch --task-queue {QUEUE}")
    operator.say("half of them have another model: they need not wait for this one")
    waits = f"durable-llm skip --session web --model {PRIMARY} --outcome waiting --why 'openai is down' --by ann"
    await operator.type(waits, most=7)
    await operator.type(f"{waits} --yes")
    while await dispatcher.find("LLMSession = 'web' AND ExecutionStatus = 'Running'"):
        await asyncio.sleep(2)  # those that had a request under way wait by now
        await operator.type(f"{waits} --yes")
    operator.say("the others have only this model: they are parked, and nothing of them is lost")
    await operator.type("durable-llm list --outcome parked --limit 2")
    await operator.type("durable-llm show nightly/0")
    operator.say("their deadline is extended, in case that openai needs the weekend")
    await operator.type("durable-llm extend --outcome parked --deadline 3d --why 'openai is down' --by ann --yes")
    operator.say("no more of them may ask before the provider says that it is back")
    await operator.type(f"durable-llm hold openai --why 'until openai says it is back' --by ann --task-queue {QUEUE}")
    await asyncio.sleep(3)  # a worker looks every two seconds
    await operator.type("durable-llm resume --outcome parked --why 'they may go on' --by ann --yes")
    await _until(dispatcher, "LLMErrorCategory = 'held' AND ExecutionStatus = 'Running'", CALLS // 2)
    await operator.type(f"durable-llm watch --task-queue {QUEUE}")
    await asyncio.sleep(max(provider.until - time.monotonic(), 0.0))
    operator.say("openai is back")
    await operator.type(f"durable-llm release openai --why 'openai is back' --by ann --task-queue {QUEUE}")
    return [*web, *nightly]


async def run(*, write: bool = False) -> int:
    """Play the night, and put its transcript into the page if `write` says so. The result is the exit status."""
    provider = Provider()
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(await WorkflowEnvironment.start_local(
            dev_server_existing_path=find_temporal(), data_converter=data_converter({}),
            search_attributes=search_attributes.ALL, dev_server_log_level="never",
        ))  # fmt: skip
        for _ in range(2):
            await stack.enter_async_context(worker(env, QUEUE, DURABLE_LLM_LOG_LEVEL="ERROR"))
        down = await stack.enter_async_context(playing({"by_request": provider.serve}))
        other = await stack.enter_async_context(playing({**SERVES, "body": ANTHROPIC}))
        dispatcher = await stack.enter_async_context(Dispatcher(env.client, task_queue=QUEUE))
        operator = Transcript(
            {"TEMPORAL_ADDRESS": env.client.service_client.config.target_host, "PYTHONPATH": str(ROOT)}
        )
        handles = await _night(operator, dispatcher, provider, other, down.url)
        results = await asyncio.gather(*(handle.result(timedelta(minutes=3)) for handle in handles))
        await _until(dispatcher, "ExecutionStatus = 'Running'", 0)
        await operator.type("durable-llm stats --since 1h")
        await operator.type("durable-llm show nightly/0")
    answers = sum(provider.answered.values()) + len(other.requests)
    twice = [prompt for prompt, count in provider.answered.items() if count > 1]
    operator.say(f"{len(results)} of {CALLS} calls are answered, by {answers} answers of providers; none was lost")
    if write:
        operator.write()
    return 0 if len(results) == CALLS and answers == CALLS and not twice else 1


ANTHROPIC: Final = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": ANSWER["choices"][0]["message"]["content"]}],
    "usage": {"input_tokens": 5, "output_tokens": 1},
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(asyncio.run(run(write="--write" in sys.argv)))
