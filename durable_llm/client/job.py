"""A job: a program that can be started again from its first line.

A call's id comes from the job's id, from what is asked, and from how often the job has asked that. So the program needs
no ids of its own. Started again, it gets the answers that it had, attaches to what is running, and asks for the rest.
"""

import dataclasses
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Self, Unpack

from durable_llm.client.calls import Calls
from durable_llm.client.checks import check_call_id, is_label
from durable_llm.client.embedding import Embeddings
from durable_llm.client.fingerprint import content_id, fingerprint
from durable_llm.client.handle import CallHandle
from durable_llm.client.many import MapResult, at_once, map_calls
from durable_llm.client.new_call import CallOptions, ConfigLike, EmbedOptions, SharedOptions, chat_prompt, to_config
from durable_llm.client.prompt import Messages
from durable_llm.client.report import Report, conditions
from durable_llm.client.spending import Spending, spent_by
from durable_llm.client.stream import CallStream, StreamedCall
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import LLMResult
from durable_llm.errors import CallNotFoundError, DurableLLMError, InvalidRequestError

logger = logging.getLogger("durable_llm")

_CANCELLED_AT_ONCE: Final = 16


@dataclass(frozen=True)
class _Run:
    """What one run of a job has asked for, in all its steps."""

    options: CallOptions
    taken: set[tuple[str, int]] = field(default_factory=set)
    """Contents that this run has asked for, each with 1 for the first time, 2 for the second, ..."""
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The same by the call's id."""
    spent: dict[str, Spending] = field(default_factory=dict)
    """What the calls have used whose ends this run has seen, by id."""


class Job:
    """The calls of one job, or of one step of it. Get one with `Dispatcher.job`.

    Attributes:
        name: The job's id, for a step with the step's name. The ids of its calls begin with it.
    """

    def __init__(self, calls: Calls, name: str, run: _Run) -> None:
        self._calls = calls
        self.name = check_call_id(name)
        self._run = run

    def __repr__(self) -> str:
        return f"Job({self.name!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave what runs alone: the job may be started again."""
        logger.info("job %s, this run: %s", self.name, self.spent)

    def step(self, name: str) -> "Job":
        """A part of the job in which a content that was asked before is a new call.

        The same name gives the same step. A step can have steps.

        Raises:
            InvalidRequestError: the name cannot be part of an id.
        """
        return Job(self._calls, f"{self.name}/{check_call_id(name)}", self._run)

    async def call(
        self, config: ConfigLike, messages: Messages, *, wait: timedelta | None = None, **options: Unpack[CallOptions]
    ) -> LLMResult:
        """The answer: the one that this job had, or a new one. Takes the options of `Dispatcher.submit`.

        If this coroutine is cancelled, or `wait` passes, the call goes on, and the same call attaches to it.

        Raises:
            DurableLLMError: as `Dispatcher.submit` and `CallHandle.result` do.
        """
        handle = await self.submit(config, messages, wait=wait, **options)
        try:
            return await handle.result(wait)
        finally:
            if handle.call_id not in self._run.spent:  # nobody saw its end, so it may be asked for again
                self._give_back(handle.call_id)

    async def submit(
        self, config: ConfigLike, messages: Messages, *, wait: timedelta | None = None, **options: Unpack[CallOptions]
    ) -> CallHandle:
        """Start the call, or attach to the one that this job has started. Takes the options of `Dispatcher.submit`.

        Raises:
            DurableLLMError: as `Dispatcher.submit` does.
        """
        chain, asked = to_config(config), self._with_defaults(options)
        taken: list[str] = []

        def name(hashes: Mapping[str, str]) -> str:
            taken.append(self._take(hashes))
            return taken[-1]

        try:
            return await self._calls.start(
                chain, chat_prompt(chain, messages, asked), asked, name, wait, on_end=self._ended
            )
        except BaseException:
            for call_id in taken:
                self._give_back(call_id)
            raise

    def stream(self, config: ConfigLike, messages: Messages, **options: Unpack[CallOptions]) -> CallStream:
        """The events of the call while its answer is written, as `Dispatcher.stream`.

        A reader that may go on later takes `submit` with `stream=True`, and the handle's `stream`.

        Raises:
            DurableLLMError: while it is read, as `call` does.
        """

        async def open_call() -> StreamedCall:
            asked: CallOptions = {**options, "stream": True}
            return (await self.submit(config, messages, **asked)).streamed

        return CallStream(open_call)

    async def embed(self, config: ConfigLike, texts: Sequence[str], **options: Unpack[EmbedOptions]) -> Embeddings:
        """The vectors of texts, as `Dispatcher.embed`. Texts that this job has embedded are not asked again.

        Raises:
            DurableLLMError: as `Dispatcher.embed` does.
        """
        chain = to_config(config)
        shared: Any = {
            name: value for name, value in self._run.options.items() if name in SharedOptions.__annotations__
        }
        asked: EmbedOptions = {**shared, **options}
        without_texts = Prompt(messages=[], texts=[], dimensions=asked.get("dimensions"))  # a batch's id has its own
        batch_ids = f"{self.name}/{content_id(fingerprint(chain, without_texts))}"
        return await self._calls.embed(chain, texts, call_id=batch_ids, on_end=self._ended, **asked)

    def map(
        self, config: ConfigLike, prompts: Iterable[Messages] | AsyncIterable[Messages], *, concurrency: int = 100,
        ordered: bool = False, progress: bool = False, **options: Unpack[CallOptions],
    ) -> AsyncGenerator[MapResult]:  # fmt: skip
        """The results of many calls, as `Dispatcher.map`, without ids.

        Raises:
            DurableLLMError: as `Dispatcher.map` does.
        """

        def ask(prompt: Messages, _: str | None) -> Awaitable[LLMResult]:
            return self.call(config, prompt, **options)

        return map_calls(ask, prompts, None, concurrency=concurrency, ordered=ordered, progress=progress)

    @property
    def spent(self) -> Spending:
        """What the calls whose ends this run has seen have used, whichever run has paid for them."""
        spent = list(self._run.spent.items())  # a copy: another thread may read while calls end
        return sum((used for call_id, used in spent if call_id.startswith(f"{self.name}/")), Spending())

    async def report(self) -> Report:
        """All calls of the job, those of earlier runs too, and what they have used.

        `not_asked_again` names those that this run has not asked for, because its prompts differ.

        Raises:
            DurableLLMError: as `Dispatcher.report` does.
        """
        found = await self._calls.report(job=self.name)
        left = [row.call_id for row in found.calls if row.call_id not in self._run.asked]
        return dataclasses.replace(found, not_asked_again=left)

    async def cancel(self) -> None:
        """Ask all running calls of the job to end, those of earlier runs too.

        Raises:
            DispatcherUnavailableError: the server refused.
        """
        listed = await self._calls.find(conditions(job=self.name, running=True))
        here = {
            call_id
            for call_id in self._run.asked.keys() - self._run.spent.keys()
            if call_id.startswith(f"{self.name}/")
        }
        running = {row.call_id for row in listed} | here  # a new call is listed a moment after its start

        async def cancel(call_id: str) -> None:
            with suppress(CallNotFoundError):
                await self._calls.attach(call_id).cancel()

        async with aclosing(at_once(cancel, running, concurrency=_CANCELLED_AT_ONCE)) as each:
            async for _ in each:
                pass

    def _with_defaults(self, options: CallOptions) -> CallOptions:
        if "call_id" in options:
            raise InvalidRequestError("call_id: a job makes its ids; for another answer to the same, use step(name)")
        return {**self._run.options, **options}

    def _take(self, hashes: Mapping[str, str]) -> str:
        """The id of the first call for this content that this run has not asked for yet."""
        content = f"{self.name}/{content_id(hashes)}"
        number = next(each for each in itertools.count(1) if (content, each) not in self._run.taken)
        self._run.taken.add((content, number))
        call_id = content if number == 1 else f"{content}-{number}"
        self._run.asked[call_id] = (content, number)
        return call_id

    def _give_back(self, call_id: str) -> None:
        """Let the next one who asks for this content have this call: it has not been answered in this run."""
        self._run.taken.discard(self._run.asked[call_id])

    def _ended(self, call_id: str, end: LLMResult | DurableLLMError) -> None:
        self._run.asked.setdefault(call_id, (call_id, 1))
        self._run.spent[call_id] = spent_by(end)


def new_job(calls: Calls, job_id: str, options: CallOptions) -> Job:
    """A job, with options for all its calls; without a session of its own, its id is their session."""
    session = job_id if is_label(check_call_id(job_id)) else None
    return Job(calls, job_id, _Run({"session": session, **options}))
