"""Recorded histories of a provider's batch: `python -m tests.support.provider_batches` records them.

An old history that no longer replays is a batch that an upgrade would leave behind, with all the calls in it.
"""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from durable_llm import ModelSpec
from durable_llm.contract import search_attributes
from durable_llm.contract.names import BATCH_WORKFLOW, COLLECTOR_WORKFLOW
from tests.conftest import binary
from tests.support.batch_server import BatchServer
from tests.support.calls import completion
from tests.support.record_histories import anonymous
from tests.support.workers import working

FOLDER = Path(__file__).parent / "data"
RECORDED = {kind: FOLDER / f"{kind}.json" for kind in (COLLECTOR_WORKFLOW, BATCH_WORKFLOW)}


async def record() -> None:
    """Two calls in one batch that has not ended when it is first polled."""
    server = BatchServer(lambda _: (200, completion("7")))
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter,
        search_attributes=search_attributes.ALL,
    )  # fmt: skip
    window = timedelta(seconds=1)
    async with env, server.running() as base, working(env.client, batch_window=window) as dispatcher:
        server.ended.clear()
        asked = ModelSpec(name="openai/gpt-4o-mini", api_base=base, batch=True)
        calls = [asyncio.create_task(dispatcher.call(asked, f"{number}")) for number in range(2)]
        while not server.polled:
            await asyncio.sleep(0.1)
        server.ended.set()
        await asyncio.gather(*calls)
        for kind, path in RECORDED.items():
            [found] = [each async for each in env.client.list_workflows(f"WorkflowType = '{kind}'")]
            history = await env.client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history()
            path.write_text(anonymous(json.dumps(history.to_json_dict(), separators=(",", ":"))) + "\n")
            print(f"{path.name}: {len(history.events)} events")


if __name__ == "__main__":
    asyncio.run(record())
