"""An agent of ldp over lmi and litellm, with an api_base, in aviary's dummy environment."""

import asyncio
import json
import os
from typing import Any

from aviary.core import DummyEnv
from ldp.agent import SimpleAgent
from lmi.config import LLMConfig, ModelSpec


async def main() -> dict[str, Any]:
    spec = ModelSpec(name="openai/fast", api_base=f"{os.environ['FRONT']}/v1", extra_params={"api_key": "none"})
    agent, environment = SimpleAgent(llm_config=LLMConfig(models=[spec])), DummyEnv()
    messages, tools = await environment.reset()
    state, done, observed = await agent.init_state(tools=tools), False, []
    while not done:
        action, state, _ = await agent.get_asv(state, messages)
        messages, _, done, _ = await environment.step(action.value)
        observed.append([message.content for message in messages])
    return {"observed": observed}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
