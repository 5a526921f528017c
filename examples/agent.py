"""An agent with a tool that survives its own death: `python -m examples.agent JOB_ID "What is 6 times 7?"`.

Started again after a crash, it gets at once, and unpaid, every answer that it had, attaches to the call that was open,
and goes on. MODEL and API_BASE in the environment choose the model.
"""

import asyncio
import os
import sys
from typing import Any

from durable_llm import Dispatcher, ModelSpec

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))
NUMBER = {"type": "number"}
MULTIPLY = {
    "name": "multiply",
    "description": "Multiply two numbers.",
    "parameters": {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]},
}
TOOLS = [{"type": "function", "function": MULTIPLY}]


async def main(job_id: str, task: str) -> None:
    """Let the model call the tool until it answers in words."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    async with Dispatcher.connect() as dispatcher, dispatcher.job(job_id) as job:
        while (answer := await job.call(MODEL, messages, tools=TOOLS)).tool_calls:
            messages.append(answer.message())
            for call in answer.tool_calls:
                factors = call.function.parsed_arguments()
                print(f"{factors['a']} x {factors['b']}", flush=True)
                product = str(factors["a"] * factors["b"])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": product})
        print(f"answer: {answer.text}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
