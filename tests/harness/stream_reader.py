"""A reader of one stream that may be killed at any moment: each event is a line of JSON on stdout.

`python -m tests.harness.stream_reader CALL_ID API_BASE [ATTEMPT OFFSET]`, the position to go on from.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict

from durable_llm import Dispatcher, Done, LLMConfig, ModelSpec, Policy
from durable_llm.contract.categories import Category

RETRIED = (Category.WORKER_LOST, Category.CONNECTION, Category.UNUSABLE_ANSWER, Category.TIMEOUT)
MODELS = 10
"""Each says something else, and a call leaves a model after three lost workers."""

POLICY = Policy(max_attempts=1000, rules=dict.fromkeys(RETRIED, "retry"))


def question(call_id: str) -> str:
    """What the call asks."""
    return f"{call_id}: tell me about storms at sea, and what sailors of old did about them."


async def main(call_id: str, api_base: str, *position: str) -> None:
    """Read to the end."""
    names = (f"openai/storyteller-{number}" for number in range(MODELS))
    chain = LLMConfig(models=[ModelSpec(name=name, api_base=api_base, max_retries=1000, timeout=60) for name in names])
    after = (int(position[0]), int(position[1])) if position else None
    async with Dispatcher.connect() as dispatcher:
        async for event in dispatcher.stream(chain, question(call_id), call_id=call_id, policy=POLICY, after=after):
            fields = {"text": event.result.text} if isinstance(event, Done) else asdict(event)
            print(json.dumps({"event": type(event).__name__, **fields}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    sys.stdout.flush()
    os._exit(0)
