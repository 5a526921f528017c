"""pydantic-ai's agents with durable calls.

    agent = Agent(DurableModel("openai/gpt-4o-mini", job.call, stream=job.stream))

Inside a workflow, `durable_llm.workflow.call` makes the calls. Needs `pip install 'durable-llm[pydantic-ai]'`.
"""

from typing import Any

from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from durable_llm.adapters.openai_client import Call, Stream, durable_client
from durable_llm.client.new_call import ConfigLike, to_config


class DurableModel(OpenAIChatModel):  # type: ignore[misc]  # pydantic-ai is not there when this is checked
    """A model for `Agent(model=...)`. Messages and tools are mapped by pydantic-ai itself.

    Args:
        config: The models to ask.
        call: Makes the calls: `job.call`, `dispatcher.call`, or `durable_llm.workflow.call`.
        stream: Makes streamed calls: `job.stream` or `dispatcher.stream`.
        options: Other arguments of OpenAIChatModel: `profile`, `settings`.

    Raises:
        InvalidRequestError: the models cannot be used.
    """

    def __init__(self, config: ConfigLike, call: Call, *, stream: Stream | None = None, **options: Any) -> None:
        chain = to_config(config)
        provider = OpenAIProvider(openai_client=durable_client(call, chain, stream=stream))
        super().__init__(chain.models[0].name, provider=provider, **options)
