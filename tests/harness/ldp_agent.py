"""An agent of ldp while its worker and the agent itself are killed: `python -m tests.harness.ldp_agent`.

The agent runs once in peace and once with kills: the worker while a request is open, the agent after its second and its
fourth step. Both runs must have the same trajectory, and the provider must have got one request for each step and one
more for each attempt whose outcome nobody knows.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from durable_llm import Dispatcher
from durable_llm.contract.categories import Outcome
from tests.adapters.environments import python_of
from tests.adapters.test_lmi import next_step
from tests.support import ROOT
from tests.support.kills import environment, started
from tests.support.wire import playing
from workers.dev.server import DevServer, ServerOptions

HELD_STEP = 3
"""The step whose first request stays open until its worker is killed."""

KILL_AFTER_STEPS = (2, 4)
"""Steps after which the agent is killed."""


class Run:
    """One run of the agent, with or without kills."""

    def __init__(self, job_id: str, env: dict[str, Any], api_base: str) -> None:
        self.job_id = job_id
        self._env = {**os.environ, **{name: value for name, value in env.items() if value is not None}}
        self._env |= {"API_BASE": api_base, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    async def start(self) -> Process:
        """Start the agent from its first line."""
        return await asyncio.create_subprocess_exec(
            str(python_of("lmi")), "-m", "tests.adapters.programs.ldp_agent", self.job_id, "simple",
            cwd=ROOT, env=self._env, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip

    async def until_step(self, process: Process, step: int) -> None:
        """Wait until the agent has taken a step."""
        assert process.stderr is not None
        async for line in process.stderr:
            if line.startswith(f"step {step}".encode()):
                return
        raise RuntimeError(f"the agent ended before step {step}")

    async def trajectory(self, process: Process) -> list[Any]:
        """What the agent prints at its end."""
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(err.decode())
        steps: list[Any] = json.loads(out.splitlines()[-1])
        return steps


async def main() -> dict[str, Any]:
    """Both runs, and what is checked of them."""
    held, hold = asyncio.Event(), False

    def reply(body: dict) -> dict:
        nonlocal hold
        if hold and sum(message["role"] == "tool" for message in body["messages"]) == HELD_STEP - 1:
            hold = False
            held.set()
            return {"fault": "timeout"}
        return next_step(body)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        wire = await stack.enter_async_context(playing({"by_request": reply}))
        env = {**environment(server), "OPENAI_API_KEY": "none"}
        worker = await started(env)
        peace = Run("in-peace", server.env, wire.url)
        expected = await peace.trajectory(await peace.start())
        in_peace, hold = len(wire.requests), True

        run = Run("with-kills", server.env, wire.url)
        agent = await run.start()
        await run.until_step(agent, KILL_AFTER_STEPS[0])
        agent.kill()
        await agent.wait()
        agent = await run.start()
        await held.wait()
        worker.signal(signal.SIGKILL)
        await worker.wait()
        worker = await started(env)
        stack.push_async_callback(worker.stop, 1.0)
        await run.until_step(agent, KILL_AFTER_STEPS[1])
        agent.kill()
        await agent.wait()
        trajectory = await run.trajectory(await run.start())
        requests = len(wire.requests) - in_peace

        os.environ["TEMPORAL_ADDRESS"] = server.address
        async with Dispatcher.connect() as dispatcher:
            report = await dispatcher.report(job=run.job_id)
            ledgers = [await dispatcher.attach(row.call_id).attempts() for row in report.calls]
    unknown = sum(entry.outcome == Outcome.UNKNOWN for ledger in ledgers for entry in ledger)
    found = {
        "steps": len(trajectory), "requests": requests, "attempts of unknown outcome": unknown, "worker killed": 1,
        "agent killed": len(KILL_AFTER_STEPS), "same trajectory": trajectory == expected,
        "requests = steps + unknown": requests == len(trajectory) + unknown and unknown > 0,
    }  # fmt: skip
    return {**found, "passed": all(found.values()) and len(trajectory) >= 5, "trajectory": trajectory}


def report(found: dict[str, Any], out: Path) -> None:
    """Print what was found, and write it as JSON."""
    table = Table("an agent of ldp", "")
    for name, value in found.items():
        if name != "trajectory":
            table.add_row(name, str(value))
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".durable-llm/ldp-agent.json"), help="file for the verdict")
    given = parser.parse_args()
    verdict = asyncio.run(main())
    report(verdict, given.out)
    sys.stdout.flush()
    os._exit(0 if verdict["passed"] else 1)  # the SDK's threads may abort an interpreter that tears itself down
