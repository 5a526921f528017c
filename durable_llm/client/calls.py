"""`Calls`: submit calls, attach to them again, await their results."""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Literal, Self, Unpack

from pydantic import BaseModel
from temporalio.client import Client

from durable_llm.client.asked import Asked, read_asked
from durable_llm.client.checks import Deadline, check_call_id, check_choices, check_count, fresh_call_id, is_label
from durable_llm.client.connection import Rpcs, rest_at_exit, until_answered
from durable_llm.client.embedding import Embedding, Embeddings, check_texts, embed_with_one_of, one_model_each
from durable_llm.client.ended_calls import EndedCalls
from durable_llm.client.handle import CallHandle, OnEnd
from durable_llm.client.long_polls import DEFAULT_LIMIT, LongPolls
from durable_llm.client.many import MapResult, map_calls
from durable_llm.client.new_call import (
    DEFAULT_DEADLINE,
    BudgetLike,
    CallOptions,
    ConfigLike,
    Namer,
    NewCall,
    chat_prompt,
    new_call,
    to_config,
)
from durable_llm.client.operations import Operations
from durable_llm.client.prompt import Messages, ResponseFormat
from durable_llm.client.stored import fetch
from durable_llm.client.stream import CallStream, Position, StreamedCall
from durable_llm.client.submission import Submission
from durable_llm.client.worker_watch import WorkerWatch
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.contract.policy import Policy
from durable_llm.contract.request import STORED_BYTES, Prompt
from durable_llm.contract.result import LLMResult
from durable_llm.contract.validation import ValidatorLike
from durable_llm.contract.vectors import Vectors
from durable_llm.errors import DurableLLMError
from durable_llm.store import Store
from durable_llm.streams import Streams, open_streams

CANCEL_S: Final = 2.0
"""Seconds to cancel calls that nobody can attach to."""


class Calls(Operations):
    """Submits calls over a client of Temporal, and attaches to them.

    Attributes:
        client: The client.
        task_queue: The queue that the workers poll.
        store: Where large prompts go. None: there is no store.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str = TASK_QUEUE,
        search_attributes: bool = True,
        store: Store | None = None,
        streams: Streams | None = None,
        warn_without_workers: timedelta = timedelta(seconds=10),
        max_long_polls: int = DEFAULT_LIMIT,
        on_end: OnEnd | None = None,
    ) -> None:
        """Wrap your own Temporal client.

        Args:
            client: A client with `durable_llm.data_converter()`, which encrypts if keys are set.
            task_queue: The queue that the workers poll.
            search_attributes: False: do not use search attributes.
            store: Where prompts go that are too large for Temporal; the workers need the same store.
            streams: Where workers publish answers while they are written; the workers need the same place. None:
                Temporal. `open_streams` makes others; `close` closes it.
            warn_without_workers: How long a result is awaited before the log warns that no worker polls the queue.
            max_long_polls: How many results are polled at once, at least 4; if more are awaited, they take turns.
            on_end: Called once for each handle that sees its call's end, with the call's id and its result or error:
                to count costs, or to log.

        Raises:
            InvalidRequestError: max_long_polls is too low.
        """
        self.client = client
        self.task_queue = task_queue
        self._search_attributes = search_attributes
        self.store = store
        self._streams = streams or open_streams("")
        self._on_end = on_end
        self._rpcs = Rpcs(client)
        self._polls = LongPolls(max_long_polls, ended=EndedCalls(client))
        self._watch = WorkerWatch(client, self._rpcs, warn_without_workers)
        rest_at_exit()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel and await this dispatcher's RPCs; the calls themselves continue."""
        await self._rpcs.close()
        await self._streams.close()

    async def call(
        self, config: ConfigLike, messages: Messages, *, call_id: str | None = None, wait: timedelta | None = None,
        **options: Unpack[CallOptions],
    ) -> LLMResult:  # fmt: skip
        """Submit and await the result. Takes the options of `submit`.

        If this coroutine is cancelled, the call is cancelled only if it had no `call_id`: without one nobody can attach
        to it again.

        `wait` limits how long Temporal may take to accept the call, and then how long the result is awaited.

        Raises:
            DurableLLMError: as `submit` and `CallHandle.result` do.
        """
        own_id = call_id if call_id is not None else fresh_call_id()
        try:
            handle = await self.submit(config, messages, call_id=own_id, wait=wait, **options)
            return await handle.result(wait)
        except asyncio.CancelledError:
            if call_id is None and not self._rpcs.closed:
                with suppress(DurableLLMError, TimeoutError):
                    await asyncio.wait_for(self.attach(own_id).cancel(), timeout=CANCEL_S)
            raise

    async def submit(  # noqa: PLR0913  # the contract's own options, all but two by name
        self,
        config: ConfigLike,
        messages: Messages,
        *,
        call_id: str | None = None,
        session: str | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        budget: BudgetLike = None,
        deadline: Deadline = DEFAULT_DEADLINE,
        policy: Policy | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: ResponseFormat = None,
        validators: Sequence[ValidatorLike] = (),
        metadata: Mapping[str, str] | None = None,
        stream: bool = False,
        if_failed: Literal["return", "rerun"] = "return",
        if_different: Literal["raise", "attach"] = "raise",
        wait: timedelta | None = None,
    ) -> CallHandle:
        """Start a call, or attach to the one that has this id.

        Args:
            config: The models to ask: a name, a ModelSpec, an LLMConfig, or a dict in one of lmi's shapes.
            messages: A question, or chat messages in OpenAI's shape.
            call_id: The call's id, with which any process can attach later. None: a fresh random one.
            session: A label of what the call belongs to; operators can filter by it.
            tenant: Who asks. Tenants whose calls wait for workers or a quota take turns, by their weights in the
                operator's file.
            priority: 1 goes first, 5 last, among calls that wait; None: 3.
            budget: What the call's money is taken from: a Budget, or several. Budgets of the tenant and the session in
                the operator's file count too.
            deadline: Time from the first acceptance, or an absolute moment with a time zone. After that moment no call
                is started, but an existing call of this id is still attached to.
            policy: How patient the call is.
            tools: Tools in OpenAI's shape.
            tool_choice: OpenAI's `tool_choice`: "none", "auto", "required", or a dict that names a tool.
            response_format: A pydantic type, a JSON Schema, or OpenAI's `response_format`.
            validators: What an answer must pass: names of the workers' validators, or {"name", "parameters"}.
            metadata: Labels for operators, shown in the Temporal UI; no prompt text and no secrets.
            stream: Whether workers publish the answer while it is written, for `CallHandle.stream`.
            if_failed: What to do if the id belongs to a failed call: return it, or run it again.
            if_different: What to do if the id belongs to another request: raise, or attach to it anyway.
            wait: How long to wait for Temporal to accept the call; None: without limit.

        Raises:
            InvalidRequestError: something is wrong with the request; nothing was sent.
            CallConflictError: the id belongs to another request; names the part that differs.
            DecryptionError: the id is taken, and this process lacks the key to compare the requests.
            DispatcherUnavailableError: `wait` passed, or the server or the store refused.
        """
        check_choices(if_failed=(if_failed, ("return", "rerun")), if_different=(if_different, ("raise", "attach")))
        options = CallOptions(
            session=session, tenant=tenant, priority=priority, budget=budget, deadline=deadline, policy=policy,
            tools=tools, tool_choice=tool_choice,
            response_format=response_format, validators=validators, metadata=metadata, stream=stream,
            if_failed=if_failed, if_different=if_different,
        )  # fmt: skip
        chain = to_config(config)
        return await self.start(chain, chat_prompt(chain, messages, options), options, call_id, wait)

    async def embed(  # noqa: PLR0913  # the options of a call, and those of a batch
        self,
        config: ConfigLike,
        texts: Sequence[str],
        *,
        call_id: str | None = None,
        dimensions: int | None = None,
        batch_size: int | None = None,
        concurrency: int = 8,
        mixed_models: bool = False,
        session: str | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        budget: BudgetLike = None,
        deadline: Deadline = DEFAULT_DEADLINE,
        policy: Policy | Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        if_failed: Literal["return", "rerun"] = "return",
        on_end: OnEnd | None = None,
    ) -> Embeddings:
        """The vectors of texts, by an embedding model.

        Texts are asked in batches, and each batch is a durable call. With a `call_id`, a second run after a crash gets
        what was answered, attaches to what is running and asks for the rest. Without one, batches that still run are
        cancelled when this coroutine ends early.

        Args:
            config: The model to ask: a name, a ModelSpec, or an LLMConfig with the same model at several accounts or
                hosts.
            texts: What to embed.
            call_id: Begin of the ids of all batches. None: a fresh random one.
            dimensions: Length of the vectors, for models that have a choice.
            batch_size: Texts of a request. None: up to 48, fewer if they are long.
            concurrency: Batches in flight at once.
            mixed_models: Whether the chain may name other models too. If one cannot embed all texts, the next one
                embeds all of them.
            session: A label of what the batches belong to. None: the `call_id`.
            tenant: As for `submit`.
            priority: As for `submit`.
            budget: As for `submit`.
            deadline: As for `submit`, for each batch.
            policy: As for `submit`.
            metadata: As for `submit`.
            if_failed: What to do with batches that failed before: return their failure, or run them again.
            on_end: Called at the end of each batch, with its id and its result or error.

        Raises:
            InvalidRequestError: something is wrong with the request; nothing was sent.
            TextsRejectedError: providers reject some texts; names each.
            DurableLLMError: how a batch ended, as `submit` and `CallHandle.result` raise it.
        """
        check_choices(if_failed=(if_failed, ("return", "rerun")))
        for name, value in {"dimensions": dimensions, "batch_size": batch_size, "concurrency": concurrency}.items():
            check_count(name, value)
        own_id = check_call_id(call_id) if call_id is not None else fresh_call_id()
        label = session or (call_id if call_id and is_label(call_id) else None)
        options = CallOptions(
            session=label, tenant=tenant, priority=priority, budget=budget, deadline=deadline, policy=policy,
            metadata=metadata, if_failed=if_failed,
        )  # fmt: skip
        checked, chains = check_texts(texts), one_model_each(to_config(config), mixed_models=mixed_models)
        made: list[Embedding] = []

        async def submit(chain: LLMConfig, batch: Sequence[str], batch_id: str) -> CallHandle:
            prompt = Prompt(messages=[], texts=list(batch), dimensions=dimensions)
            return await self.start(chain, prompt, options, batch_id, None, on_end)

        def embedding_with(chain: LLMConfig) -> Embedding:
            part = f"{own_id}/{len(made)}" if len(chains) > 1 else own_id
            made.append(Embedding(submit, self._unstored, part, chain, concurrency))
            return made[-1]

        try:
            return await embed_with_one_of(chains, embedding_with, checked, batch_size)
        except BaseException:
            if call_id is None and not self._rpcs.closed:
                await self._cancel_all([batch_id for embedding in made for batch_id in embedding.running])
            raise

    async def _cancel_all(self, call_ids: Sequence[str]) -> None:
        """Ask calls to end that nobody can attach to, as far as Temporal answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await asyncio.gather(*(self.attach(each).cancel() for each in call_ids), return_exceptions=True)

    async def _unstored(self, vectors: Vectors) -> Vectors:
        """Vectors, fetched from the store if they are there."""
        if vectors.stored is None:
            return vectors
        return await fetch(self.store, self.client.data_converter, vectors.stored, Vectors)

    async def start(
        self, chain: LLMConfig, prompt: Prompt, options: CallOptions, call_id: "str | Namer | None",
        wait: timedelta | None, on_end: OnEnd | None = None,
    ) -> CallHandle:  # fmt: skip
        """Start a call, or attach to the one with this id; what `submit`, `embed` and jobs have in common.

        Args:
            chain: The models to ask.
            prompt: What to ask.
            options: The other options of `submit`.
            call_id: The id, or what makes it.
            wait: As for `submit`.
            on_end: Is told how the call ended, when a handle sees it.

        Raises:
            DurableLLMError: as `submit` does.
        """
        call = self.prepare(chain, prompt, options, call_id)
        submission = Submission(self.client, self.task_queue, self.store, call)
        start = functools.partial(
            submission.start_or_attach,
            rerun=options.get("if_failed") == "rerun",
            attach_anyway=options.get("if_different") == "attach",
        )
        started = await self._rpcs.run(
            until_answered(start), call_id=call.call_id, wait=wait, unanswered=lambda: submission.unanswered
        )
        response_format = options.get("response_format")
        response_type = response_format if isinstance(response_format, type) else None
        return self._handle(call.call_id, response_type, on_end, attached=not started)

    def prepare(self, chain: LLMConfig, prompt: Prompt, options: CallOptions, call_id: "str | Namer | None") -> NewCall:
        """A checked call that `start` would submit.

        Raises:
            InvalidRequestError: a part is wrong; names it.
        """
        return new_call(
            chain, prompt, options, call_id=call_id, search_attributes=self._search_attributes,
            stored_above=STORED_BYTES if self.store is not None else None,
        )  # fmt: skip

    def stream(
        self, config: ConfigLike, messages: Messages, *, after: Position | None = None, call_id: str | None = None,
        wait: timedelta | None = None, **options: Unpack[CallOptions],
    ) -> CallStream:  # fmt: skip
        """The events of a call while its answer is written: `async for event in dispatcher.stream(...)`.

        The call is submitted when the first event is asked for, and goes on when nobody reads.

        Args:
            config: The models to ask, as for `submit`.
            messages: A question, or chat messages, as for `submit`.
            after: The position of the last TextDelta that this reader has, to go on behind it after a crash.
            call_id: The call's id.
            wait: How long to wait for Temporal to accept the call; None: without limit.
            options: The other options of `submit`.

        Raises:
            DurableLLMError: while it is read, as `submit` and `CallHandle.result` do.
        """
        asked: CallOptions = {**options, "stream": True}

        async def open_call() -> StreamedCall:
            return (await self.submit(config, messages, call_id=call_id, wait=wait, **asked)).streamed

        return CallStream(open_call, after)

    def map(
        self, config: ConfigLike, prompts: Iterable[Messages] | AsyncIterable[Messages], *,
        ids: Iterable[str] | AsyncIterable[str] | None = None, concurrency: int = 100, ordered: bool = False,
        progress: bool = False, **options: Unpack[CallOptions],
    ) -> AsyncGenerator[MapResult]:  # fmt: skip
        """The results of many calls, as they end: `async for each in dispatcher.map(...)`.

        A call that fails does not end the others. Prompts are read when their turn comes, so there may be any number of
        them. With `ids`, a second run after a crash gets what was answered, attaches to what is running and asks for
        the rest. Without, calls that still run are cancelled when the reader leaves.

        Args:
            config: The models to ask, as for `submit`.
            prompts: A question or chat messages for each call.
            ids: An id for each prompt.
            concurrency: Calls in flight at once.
            ordered: Whether results come in the order of the prompts.
            progress: Whether a bar on stderr shows how far it is.
            options: The other options of `submit`, for every call.

        Raises:
            InvalidRequestError: `concurrency` is not a count, or there are fewer ids than prompts.
            DispatcherUnavailableError, DecryptionError: what would end every call in the same way.
        """

        def ask(prompt: Messages, call_id: str | None) -> Awaitable[LLMResult]:
            return self.call(config, prompt, call_id=call_id, **options)

        return map_calls(ask, prompts, ids, concurrency=concurrency, ordered=ordered, progress=progress)

    async def asked(self, call_id: str) -> Asked:
        """What a call was asked: its messages and labels, as Temporal or the store has kept them.

        Raises:
            CallNotFoundError, CallConflictError: there is no such call.
            DecryptionError: this process lacks the key.
            InvalidRequestError, DispatcherUnavailableError: the prompt is in a store, and cannot be fetched; or the
                server refused.
        """
        read = functools.partial(read_asked, self.client, self.store, check_call_id(call_id))
        return await self._rpcs.run(until_answered(read), call_id=call_id)

    def attach(self, call_id: str, *, response_type: type[BaseModel] | None = None) -> CallHandle:
        """A handle on the call with this id. If there is no such call, the handle's first use raises.

        Args:
            call_id: The id that `submit` had or gave.
            response_type: The pydantic type that was submitted as `response_format`, to fill `parsed`.

        Raises:
            InvalidRequestError: Temporal would refuse this id.
        """
        return self._handle(check_call_id(call_id), response_type)

    def _handle(
        self, call_id: str, response_type: type[BaseModel] | None, also_tell: OnEnd | None = None, *,
        attached: bool = True,
    ) -> CallHandle:  # fmt: skip
        handle = CallHandle(
            self.client, self._rpcs, call_id, polls=self._polls, watch=self._watch, streams=self._streams,
            response_type=response_type, on_end=[tell for tell in (self._on_end, also_tell) if tell is not None],
        )  # fmt: skip
        handle.attached = attached
        return handle
