"""`Dispatcher`: the way in to everything that a caller does."""

from collections.abc import Coroutine, Generator
from datetime import timedelta
from typing import Any, Unpack

from durable_llm.client.calls import Calls
from durable_llm.client.connection import check_namespace, connect_client
from durable_llm.client.handle import OnEnd
from durable_llm.client.job import Job, new_job
from durable_llm.client.long_polls import DEFAULT_LIMIT, check_limit
from durable_llm.client.new_call import CallOptions
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.store import store_from_environment
from durable_llm.streams import streams_from_environment


class Dispatcher(Calls):
    """A connection to Temporal for submitting calls. Get one with `Dispatcher.connect()`, one per event loop."""

    @classmethod
    def connect(
        cls,
        *,
        task_queue: str = TASK_QUEUE,
        wait: timedelta = timedelta(seconds=10),
        profile: str | None = None,
        search_attributes: bool = True,
        max_long_polls: int = DEFAULT_LIMIT,
        on_end: OnEnd | None = None,
    ) -> "Connecting":
        """Connect with the settings of the TEMPORAL_* environment or of a profile: `async with` it, or `await` it.

        DURABLE_LLM_STORE names the store for prompts that are too large for Temporal, DURABLE_LLM_STREAMS the place for
        answers while they are written.

        Args:
            task_queue: The queue that the workers poll.
            wait: How long to try before giving up.
            profile: A profile of Temporal's configuration file.
            search_attributes: False for a namespace that cannot have our search attributes.
            max_long_polls: How many results are polled at once, at least 4; if more are awaited, they take turns.
            on_end: Called once for each handle that sees its call's end, with the call's id and its result or error:
                to count costs, or to log.

        Raises:
            DispatcherUnavailableError: no server, namespace or search attributes; says where and what to do.
            InvalidRequestError: max_long_polls is too low, or the settings of connection or store cannot be used.
        """

        async def connect() -> Dispatcher:
            check_limit(max_long_polls)
            store, streams = store_from_environment(), streams_from_environment()
            client = await connect_client(wait=wait, profile=profile)
            await check_namespace(client, want_search_attributes=search_attributes, wait=wait)
            return cls(
                client, task_queue=task_queue, search_attributes=search_attributes, store=store,
                streams=streams, max_long_polls=max_long_polls, on_end=on_end,
            )  # fmt: skip

        return Connecting(connect())

    def job(self, job_id: str, **options: Unpack[CallOptions]) -> Job:
        """The calls of a job that can be started again from its first line, without an id for each call.

        Args:
            job_id: The job's id. The ids of its calls begin with it.
            options: Options of `submit` for all its calls.

        Raises:
            InvalidRequestError: the id cannot be used.
        """
        return new_job(self, job_id, options)


class Connecting:
    """A connection that is being made: `await` it, or enter it with `async with`."""

    def __init__(self, connect: Coroutine[Any, Any, Dispatcher]) -> None:
        self._connect = connect
        self._dispatcher: Dispatcher | None = None

    def __await__(self) -> Generator[Any, None, Dispatcher]:
        dispatcher: Dispatcher = yield from self._connect.__await__()
        return dispatcher

    async def __aenter__(self) -> Dispatcher:
        self._dispatcher = await self
        return self._dispatcher

    async def __aexit__(self, *_: object) -> None:
        if self._dispatcher is not None:
            await self._dispatcher.close()
