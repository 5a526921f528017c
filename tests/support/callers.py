"""A workflow that calls, and its recorded histories: `python -m tests.support.callers` records them.

An old history that no longer replays is an agent of a user's that an upgrade would break.
"""

import asyncio
import tempfile
import uuid
from datetime import timedelta
from pathlib import Path

from temporalio import workflow
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from durable_llm import AllModelsExhaustedError
from durable_llm import workflow as llm
from durable_llm.contract import search_attributes
from tests.conftest import binary
from tests.support.scripted import ScriptedProvider, answer, http_error
from workers.plugin import DurableLLMPlugin
from workers.settings import WorkerSettings

FOLDER = Path(__file__).parent / "data"
RECORDED = {"with-a-store": FOLDER / "caller-with-a-store.json", "without": FOLDER / "caller-without-a-store.json"}
MODEL = "openai/gpt-4o-mini"


@workflow.defn
class Caller:
    """Asks with a small and a large prompt, meets a failure, sleeps and asks again."""

    @workflow.run
    async def run(self) -> list[str | None]:
        texts = [(await llm.call(MODEL, "small")).text, (await llm.call(MODEL, "large " * 2000)).text]
        try:
            await llm.call(MODEL, "fails", session="callers")
        except AllModelsExhaustedError as error:
            texts.append(type(error).__name__)
        await workflow.sleep(timedelta(milliseconds=10))
        texts.append((await llm.call(MODEL, "last", call_id=f"{workflow.info().workflow_id}/last")).text)
        return texts


async def record() -> None:
    """Play the workflow with a store and without, and write both histories."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter,
        search_attributes=search_attributes.ALL,
    )  # fmt: skip
    async with env:
        with tempfile.TemporaryDirectory() as directory:
            for name, store in (("with-a-store", Path(directory).as_uri()), ("without", "")):
                provider = ScriptedProvider([answer("1"), answer("2"), http_error(401), answer("3")])
                plugin, queue = DurableLLMPlugin(WorkerSettings(store=store), attempts=provider), str(uuid.uuid4())
                async with Worker(env.client, task_queue=queue, workflows=[Caller], plugins=[plugin]):
                    handle = await env.client.start_workflow(Caller.run, id=f"caller-{name}", task_queue=queue)
                    print(name, await handle.result())
                    RECORDED[name].write_text((await handle.fetch_history()).to_json() + "\n")


if __name__ == "__main__":
    asyncio.run(record())
