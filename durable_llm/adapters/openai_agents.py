"""The OpenAI Agents SDK with durable calls.

    agent = Agent(name="Assistant", model=DurableModel("openai/gpt-4o-mini", job.call, stream=job.stream))

In workflow code, `durable_llm.workflow.call` makes each call a child workflow, so that no activity is held while it
waits. Needs `pip install 'durable-llm[openai-agents]'`.
"""

from agents import OpenAIChatCompletionsModel

from durable_llm.adapters.openai_client import Call, Stream, durable_client
from durable_llm.client.new_call import ConfigLike, to_config


class DurableModel(OpenAIChatCompletionsModel):  # type: ignore[misc]  # the SDK is not there when this is checked
    """A model for `Agent(model=...)`. Items and tools are mapped by the SDK itself.

    Args:
        config: The models to ask.
        call: Makes the calls: `job.call`, `dispatcher.call`, or `durable_llm.workflow.call`.
        stream: Makes streamed calls: `job.stream` or `dispatcher.stream`.

    Raises:
        InvalidRequestError: the models cannot be used.
    """

    def __init__(self, config: ConfigLike, call: Call, *, stream: Stream | None = None) -> None:
        chain = to_config(config)
        super().__init__(chain.models[0].name, durable_client(call, chain, stream=stream))
