"""A graph of LangGraph over langchain-openai: chat completions, and Responses with kept conversations."""

import asyncio
import json
import os
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

OPTIONS: dict[str, Any] = {"base_url": f"{os.environ['FRONT']}/v1", "api_key": "none"}


class City(BaseModel):
    name: str


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


async def agent(**options: Any) -> list[Any]:
    graph = create_react_agent(ChatOpenAI(model="fast", **OPTIONS, **options), [weather])
    state = await graph.ainvoke({"messages": [("user", "Weather in Oslo?")]})
    answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
    return [
        answers[-1].text,
        [call["name"] for call in answers[0].tool_calls],
        answers[-1].usage_metadata["input_tokens"],
    ]


async def main() -> dict[str, Any]:
    seen: dict[str, Any] = {"chat": await agent()}
    seen["responses"] = await agent(use_responses_api=True)
    seen["conversation"] = await agent(use_responses_api=True, use_previous_response_id=True)
    model = ChatOpenAI(model="fast", **OPTIONS)
    seen["typed"] = (await model.with_structured_output(City).ainvoke("Which city?")).name
    seen["streamed"] = "".join([piece.text async for piece in model.astream("Stream.")])
    seen["blocking"] = model.invoke("Hi.").text
    vectors = OpenAIEmbeddings(model="vectors", check_embedding_ctx_length=False, **OPTIONS)
    seen["vectors"] = await vectors.aembed_documents(["one"])
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
