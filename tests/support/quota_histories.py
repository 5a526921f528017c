"""Recorded histories of a quota, a budget and a hold: `python -m tests.support.quota_histories` records what is missing.

These workflows run for as long as they are used, so an upgrade always meets old histories of them.
"""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from durable_llm import Budget, Dispatcher, ModelSpec
from durable_llm.contract import search_attributes
from durable_llm.contract.budgets import budget_id
from durable_llm.contract.holds import hold_id
from durable_llm.contract.names import BUDGET_WORKFLOW, HOLD_WORKFLOW, QUOTA_WORKFLOW
from durable_llm.contract.quotas import quota_id, quota_queue
from tests.conftest import binary
from tests.support.calls import completion
from tests.support.record_histories import anonymous
from tests.support.wire import playing
from workers.plugin import DurableLLMPlugin
from workers.settings import WorkerSettings

FOLDER = Path(__file__).parent / "data"
RECORDED = {kind: FOLDER / f"{kind}.json" for kind in (QUOTA_WORKFLOW, BUDGET_WORKFLOW, HOLD_WORKFLOW)}
_QUEUE = "recorded"


async def record() -> None:
    """A quota that meets a 429, a budget that pauses a call until it is raised, a hold that is released."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter,
        search_attributes=search_attributes.ALL,
    )  # fmt: skip
    refused = {"http_status": 429, "headers": {"retry-after": "2"}, "body": {"error": {"message": "slow down"}}}
    with TemporaryDirectory() as folder:
        chains = Path(folder) / "chains.yaml"
        chains.write_text(yaml.safe_dump({"quotas": {"mini": {"models": ["openai/*"], "requests_per_minute": 6000}}}))
        settings = WorkerSettings(chains=chains, api_base_hosts="127.0.0.1")
        async with (
            env, playing({**refused, "then": {"body": completion("7")}}) as wire,
            Worker(env.client, task_queue=_QUEUE, plugins=[DurableLLMPlugin(settings)]),
            Dispatcher(env.client, task_queue=_QUEUE) as dispatcher,
        ):  # fmt: skip
            spec = ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url + "/v1")
            await dispatcher.call(spec, "Hi.", budget=Budget(name="kept", hard=1.0))
            paused = await dispatcher.submit(spec, "Hi.", budget=Budget(name="kept", hard=1e-7, on_spent="pause"))
            while not (await dispatcher.budget("kept")).waiting:
                await asyncio.sleep(0.1)
            await dispatcher.raise_budget("kept", hard=2.0)
            await paused.result()
            await dispatcher.hold("openai", by="ann", why="it is moved")
            await asyncio.sleep(12)  # the pace grows twice; the worker learns of the hold
            held = await dispatcher.submit(spec, "Hi.")
            while (await held.status()).activity != "paused: openai is held by ann: it is moved":
                await asyncio.sleep(0.1)
            await dispatcher.release("openai", by="ann", why="moved")
            await held.result()
            ids = {
                QUOTA_WORKFLOW: quota_id(quota_queue(_QUEUE, "mini")), BUDGET_WORKFLOW: budget_id(_QUEUE, "kept"),
                HOLD_WORKFLOW: hold_id(_QUEUE, "openai", None),
            }  # fmt: skip
            for kind, path in RECORDED.items():
                if path.exists():
                    continue
                history = await env.client.get_workflow_handle(ids[kind]).fetch_history()
                path.write_text(anonymous(json.dumps(history.to_json_dict(), separators=(",", ":"))) + "\n")
                print(f"{path.name}: {len(history.events)} events")


if __name__ == "__main__":
    asyncio.run(record())
