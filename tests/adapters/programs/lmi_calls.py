"""What callers of lmi do, with durable calls: `python -m tests.adapters.programs.lmi_calls JOB_ID`."""

import asyncio
import json
import os
import sys
from datetime import timedelta
from typing import Any

from aviary.core import Message, Tool
from lmi.config import LLMConfig, ModelSpec
from lmi.cost_tracker import GLOBAL_COST_TRACKER, cost_tracking_ctx
from lmi.exceptions import AllModelsExhaustedError
from pydantic import BaseModel

from durable_llm import Dispatcher, InvalidRequestError, Policy
from durable_llm.adapters.lmi import LiteLLMModel, durable

LMI = Policy(preset="lmi", backoff_initial=timedelta(milliseconds=1))


class City(BaseModel):
    name: str


def weather(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"sun in {city}"


def model(*names: str, **fields: Any) -> LiteLLMModel:
    specs = [
        ModelSpec(name=name, api_base=os.environ["API_BASE"], max_retries=1)
        for name in names or ("openai/gpt-4o-mini",)
    ]
    return LiteLLMModel(llm_config=LLMConfig(models=specs, **fields))


async def refusals(seen: dict[str, Any]) -> None:
    """What does not work is said."""
    try:
        await model("openai/broken").call_single("Hi.")
    except AllModelsExhaustedError as error:
        seen["exhausted"] = [type(error.last_exc).__name__, len(error.last_exc.attempts)]
    secret = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini", api_key="sk-" + "a1B2" * 12)])
    try:
        await LiteLLMModel(llm_config=secret).call_single("Hi.")
    except InvalidRequestError as error:
        seen["key"] = str(error)
    config = {"name": "openai/gpt-4o-mini", "request_limit": {"openai/gpt-4o-mini": "1/minute"}}
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=os.environ["API_BASE"])
    limited = LiteLLMModel(name=config["name"], config=config, llm_config=LLMConfig(models=[spec]))
    await limited.call_single("Hi.")
    try:
        async with asyncio.timeout(1):
            await limited.call_single("Hi.")
    except TimeoutError:
        seen["limited"] = True


async def main(job_id: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    tracked: list[Any] = []

    async def track(response: Any) -> None:
        tracked.append(response.usage.total_tokens)

    GLOBAL_COST_TRACKER.add_callback(track)
    try:
        await model().call_single("Hi.")
    except InvalidRequestError as error:
        seen["without a job"] = str(error)
    queue = os.environ["DURABLE_LLM_TASK_QUEUE"]
    async with Dispatcher.connect(task_queue=queue) as dispatcher, dispatcher.job(job_id, policy=LMI) as job:
        with durable(job), cost_tracking_ctx():
            plain = await model().call_single("Hi.", name="greeting")
            seen["plain"] = [
                plain.text, plain.model, plain.prompt_count, plain.completion_count, plain.cost > 0, plain.name,
                plain.finish_reason, [type(message).__name__ for message in plain.messages], plain.seconds_to_last_token > 0,
            ]  # fmt: skip
            called = await model().call_single(
                [Message(content="Weather in Oslo?")], tools=[Tool.from_function(weather)], tool_choice="required"
            )
            [request] = called.messages
            seen["tools"] = [type(request).__name__, request.tool_calls[0].function.arguments]
            seen["no tools"] = type((await model().call_single("Hi.", tools=[])).messages[0]).__name__
            typed = await model().call_single("Which city?", output_type=City)
            seen["typed"] = City.model_validate_json(typed.text).name
            pieces: list[str] = []
            streamed = await model().call_single("Stream.", callbacks=[pieces.append])
            seen["callbacks"] = [pieces, streamed.text]
            seen["several"] = [result.text for result in await model().call([Message(content="Two.")], n=2)]

            def accept(result: Any) -> None:
                if result.text != "good":
                    raise ValueError(result.text)

            seen["validated"] = (await model(response_validator=accept).call_single("Be good.")).text
            parsed = model(tool_parser=lambda text, _: Message(role="assistant", content=text.message.content.upper()))
            seen["parsed"] = (await parsed.call_single("Hi.")).messages[0].content
            seen["fallback"] = (await model("openai/broken", "openai/gpt-4o-mini").call_single("Hi.")).text
            chosen = await model().select_tool([Message(content="Weather in Oslo?")], [Tool.from_function(weather)])
            seen["selected"] = chosen.tool_calls[0].function.arguments
            await refusals(seen)
        seen["calls"] = job.spent.calls
    seen["tracked"] = len(tracked)
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
