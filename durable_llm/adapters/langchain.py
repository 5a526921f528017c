"""LangChain's chat models, and LangGraph's nodes, with durable calls.

    model = ChatDurable("openai/gpt-4o-mini", job.call, stream=job.stream)
    answer = await model.ainvoke("Name a prime.")

With the `call` of a job of `durable_llm.sync`, `invoke` and `stream` work instead of `ainvoke` and `astream`. Needs
`pip install 'durable-llm[langchain]'`.
"""

from typing import Any

from langchain_openai import ChatOpenAI

from durable_llm.adapters.openai_client import BlockingCall, Call, Stream, blocking_client, durable_client
from durable_llm.client.new_call import ConfigLike, to_config


class ChatDurable(ChatOpenAI):  # type: ignore[misc]  # LangChain is not there when this is checked
    """A BaseChatModel. Messages and tools are mapped by LangChain itself.

    Args:
        config: The models to ask.
        call: Makes the calls: `job.call` or `dispatcher.call`, asynchronous or of `durable_llm.sync`.
        stream: Makes streamed calls: `job.stream` or `dispatcher.stream`.
        options: Other arguments of ChatOpenAI, such as `temperature`.

    Raises:
        InvalidRequestError: the models cannot be used.
    """

    def __init__(
        self, config: ConfigLike, call: Call | BlockingCall, *, stream: Stream | None = None, **options: Any
    ) -> None:
        chain = to_config(config)
        client, blocking = durable_client(call, chain, stream=stream), blocking_client(call, chain)
        super().__init__(
            model=chain.models[0].name, api_key="none", max_retries=0, root_async_client=client,
            async_client=client.chat.completions, root_client=blocking, client=blocking.chat.completions, **options,
        )  # fmt: skip
