"""An agent of ldp in aviary's dummy environment: `python -m tests.adapters.programs.ldp_agent JOB_ID AGENT`.

It prints its trajectory. Started again, it takes the same steps with the answers that it had.
"""

import asyncio
import json
import os
import sys
from typing import Any

from aviary.core import DummyEnv
from ldp.agent import ReActAgent, SimpleAgent
from lmi.config import LLMConfig, ModelSpec

from durable_llm import Dispatcher
from durable_llm.adapters.lmi import durable

AGENTS = {"simple": SimpleAgent, "react": ReActAgent}


async def main(job_id: str, kind: str) -> list[Any]:
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=os.environ["API_BASE"], extra_params={"temperature": 1.0})
    agent, environment = AGENTS[kind](llm_config=LLMConfig(models=[spec])), DummyEnv()
    queue = os.environ.get("DURABLE_LLM_TASK_QUEUE", "durable-llm")
    async with Dispatcher.connect(task_queue=queue) as dispatcher, dispatcher.job(job_id) as job:
        with durable(job):
            messages, tools = await environment.reset()
            state, done, trajectory = await agent.init_state(tools=tools), False, []
            while not done:
                action, state, _ = await agent.get_asv(state, messages)
                messages, reward, done, _ = await environment.step(action.value)
                observed = [message.content for message in messages]
                trajectory.append([str(action.value), observed, reward])
                print(f"step {len(trajectory)}", file=sys.stderr, flush=True)
    return trajectory


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
