"""`Dispatcher`: submit calls, attach to them again, await their results."""

import asyncio
import re
import uuid
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ValidationError
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from durable_llm import search_attributes
from durable_llm.categories import CallOutcome
from durable_llm.coercion import ConfigLike, to_config
from durable_llm.config import LLMConfig
from durable_llm.connection import Rpcs, check_namespace, connect_client, rest_at_exit
from durable_llm.errors import CallConflictError, DurableLLMError, InvalidRequestError, describe_validation_error
from durable_llm.fingerprint import differing, fingerprint
from durable_llm.handle import CallHandle
from durable_llm.key_reference import find_literal_key
from durable_llm.names import MEMO_FINGERPRINT, MEMO_METADATA, TASK_QUEUE, WORKFLOW
from durable_llm.policy import Policy
from durable_llm.prompt import Messages, ResponseFormat, to_prompt
from durable_llm.request import MAX_REQUEST_BYTES, CallRequest, Prompt
from durable_llm.result import LLMResult

DEFAULT_DEADLINE: Final = timedelta(hours=24)
EXECUTION_GRACE: Final = timedelta(seconds=60)
"""The workflow's own timer ends a call at its deadline; Temporal's execution timeout is the net behind it."""

_MAX_ID_BYTES: Final = 1000
_MAX_METADATA_BYTES: Final = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FAILED = {
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
}

Deadline = timedelta | datetime


class Dispatcher:
    """A connection to the durable dispatcher. One per event loop; use `Dispatcher.connect()` to get one."""

    def __init__(self, client: Client, *, task_queue: str = TASK_QUEUE, search_attributes: bool = True) -> None:
        """Wrap a client of one's own; it must use `temporalio.contrib.pydantic.pydantic_data_converter`."""
        self._client = client
        self._task_queue = task_queue
        self._search_attributes = search_attributes
        self._rpcs = Rpcs(client)
        rest_at_exit()

    @classmethod
    def connect(
        cls,
        *,
        task_queue: str = TASK_QUEUE,
        wait: timedelta = timedelta(seconds=10),
        profile: str | None = None,
        search_attributes: bool = True,
    ) -> "Connecting":
        """Connect as the TEMPORAL_* environment or a profile says: `async with` it, or `await` it.

        Args:
            task_queue: The queue that the workers poll.
            wait: How long to try before giving up.
            profile: A profile of Temporal's configuration file.
            search_attributes: False to do without search attributes, in a namespace that cannot have them.

        Raises:
            DispatcherUnavailableError: no server, no namespace or no search attributes; says where and what to do.
            InvalidRequestError: the connection settings cannot be used.
        """

        async def connect() -> Dispatcher:
            client = await connect_client(wait=wait, profile=profile)
            await check_namespace(client, want_search_attributes=search_attributes, wait=wait)
            return cls(client, task_queue=task_queue, search_attributes=search_attributes)

        return Connecting(connect())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel and await what is under way here; the calls themselves go on."""
        await self._rpcs.close()

    async def call(
        self, config: ConfigLike, messages: Messages, *, call_id: str | None = None, wait: timedelta | None = None,
        **options: Any,
    ) -> LLMResult:  # fmt: skip
        """Submit and await the result. Takes what `submit` takes.

        Cancelling it locally cancels the call only if it had no `call_id`: without one nobody can attach to it again.

        Args:
            config: As for `submit`.
            messages: As for `submit`.
            call_id: As for `submit`.
            wait: How long to wait for Temporal to accept, and then for the result; None: as long as it takes.
            **options: As for `submit`.

        Raises:
            DurableLLMError: as `submit` and `CallHandle.result` do.
        """
        handle = await self.submit(config, messages, call_id=call_id, wait=wait, **options)
        try:
            return await handle.result(wait)
        except asyncio.CancelledError:
            if call_id is None:
                with suppress(DurableLLMError, TimeoutError):
                    await asyncio.wait_for(handle.cancel(), timeout=2.0)
            raise

    async def submit(
        self,
        config: ConfigLike,
        messages: Messages,
        *,
        call_id: str | None = None,
        session: str | None = None,
        deadline: Deadline = DEFAULT_DEADLINE,
        policy: Policy | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        response_format: ResponseFormat = None,
        validators: Collection[str] = (),
        metadata: Mapping[str, str] | None = None,
        if_failed: Literal["return", "rerun"] = "return",
        if_different: Literal["raise", "attach"] = "raise",
        wait: timedelta | None = None,
    ) -> CallHandle:
        """Start a call, or attach to the one that has this id.

        Args:
            config: The models to ask: a name, a ModelSpec, an LLMConfig, or a dict in one of lmi's shapes.
            messages: A question, or chat messages in OpenAI's shape.
            call_id: The call's id, with which any process can attach later. None: a fresh random one.
            session: What the call belongs to; operators filter by it.
            deadline: Time from the first acceptance, or an absolute moment with a time zone.
            policy: How patient the call is.
            tools: Tools in OpenAI's shape.
            tool_choice: OpenAI's `tool_choice`.
            response_format: OpenAI's `response_format`, or a pydantic type.
            validators: Names of validators that the worker registered.
            metadata: Labels for operators, shown in the Temporal UI; no prompt text and no secrets.
            if_failed: What to do when the id names a call that failed: return it, or run it again.
            if_different: What to do when the id names another request: raise, or attach to it anyway.
            wait: How long to wait for Temporal to accept; None: as long as it takes.

        Raises:
            InvalidRequestError: something is wrong with the request; nothing was sent.
            CallConflictError: the id belongs to another request; names the part.
            DispatcherUnavailableError: `wait` passed, or the server refused.
        """
        _check_choices(if_failed=(if_failed, ("return", "rerun")), if_different=(if_different, ("raise", "attach")))
        models = _supported(to_config(config), validators)
        prompt = to_prompt(messages, tools=tools, tool_choice=tool_choice, response_format=response_format)
        request = self._request(models, _policy(policy), deadline, session)
        call_id = _check_call_id(call_id) if call_id is not None else f"llm-{uuid.uuid4()}"
        submission = _Submission(self, call_id, request, prompt, models, _check_metadata(metadata))
        await self._rpcs.run(
            submission.start_or_attach(rerun=if_failed == "rerun", attach_anyway=if_different == "attach"),
            call_id=call_id,
            wait=wait,
        )
        response_type = response_format if isinstance(response_format, type) else None
        return self.attach(call_id, response_type=response_type)

    def attach(self, call_id: str, *, response_type: type[BaseModel] | None = None) -> CallHandle:
        """A handle on the call of this id; whether there is one, its first use tells.

        Args:
            call_id: The id that `submit` had or gave.
            response_type: The pydantic type that was submitted as `response_format`, to fill `parsed`.

        Raises:
            InvalidRequestError: Temporal would refuse this id.
        """
        return CallHandle(self._client, self._rpcs, _check_call_id(call_id), response_type=response_type)

    def _request(self, config: LLMConfig, policy: Policy, deadline: Deadline, session: str | None) -> CallRequest:
        after, at = _deadline(deadline)
        if session is not None and (not session or len(session.encode()) > 255 or find_literal_key(session)):
            raise InvalidRequestError("session: expected a short label, at most 255 bytes, and no secret")
        request = CallRequest(
            models=list(config.models), policy=policy, deadline_after_s=after, deadline_at=at, session=session,
            search_attributes=self._search_attributes,
        )  # fmt: skip
        if (size := len(request.model_dump_json())) > MAX_REQUEST_BYTES:
            raise InvalidRequestError(f"config: takes {size:,} bytes as JSON and the limit is {MAX_REQUEST_BYTES:,}")
        return request


class Connecting:
    """A connection being made: `await` it, or enter it with `async with`."""

    def __init__(self, connect: Any) -> None:
        self._connect = connect
        self._dispatcher: Dispatcher | None = None

    def __await__(self) -> Generator[Any, None, Dispatcher]:
        dispatcher: Dispatcher = yield from self._connect.__await__()
        return dispatcher

    async def __aenter__(self) -> Dispatcher:
        self._dispatcher = await self
        return self._dispatcher

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._dispatcher is not None:
            await self._dispatcher.close()


class _Submission:
    """One submission: what to start, and what to compare when the id is taken."""

    def __init__(
        self, dispatcher: Dispatcher, call_id: str, request: CallRequest, prompt: Prompt, config: LLMConfig,
        metadata: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._client = dispatcher._client
        self._task_queue = dispatcher._task_queue
        self._call_id = call_id
        self._request = request
        self._prompt = prompt
        self._fingerprint = fingerprint(config, prompt)
        self._memo = {MEMO_FINGERPRINT: self._fingerprint, **({MEMO_METADATA: dict(metadata)} if metadata else {})}

    async def start_or_attach(self, *, rerun: bool, attach_anyway: bool) -> None:
        """Start the call; where the id is taken, see that it is the same request."""
        if await self._start(WorkflowIDReusePolicy.REJECT_DUPLICATE):
            return
        description = await self._client.get_workflow_handle(self._call_id).describe()
        if not attach_anyway:
            await self._compare(description)
        if rerun and description.status in _FAILED:
            # Where another submission was faster, its run is the one to attach to.
            await self._start(WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)

    async def _start(self, reuse: WorkflowIDReusePolicy) -> bool:
        """Whether this submission started the call; False where the id is taken."""
        try:
            await self._client.start_workflow(
                WORKFLOW,
                args=[self._request, self._prompt],
                id=self._call_id,
                task_queue=self._task_queue,
                execution_timeout=self._execution_timeout(),
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=self._memo,
                search_attributes=self._search_attributes(),
                static_summary=self._summary(),
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _compare(self, description: WorkflowExecutionDescription) -> None:
        if description.workflow_type != WORKFLOW:
            raise CallConflictError(
                f"call id {self._call_id!r} belongs to a workflow of type {description.workflow_type!r}; "
                "use another id",
                differing=("workflow type",),
                call_id=self._call_id,
            )
        theirs = await description.memo_value(MEMO_FINGERPRINT, {}, type_hint=dict[str, str])
        if parts := differing(self._fingerprint, theirs):
            raise CallConflictError(
                f"call id {self._call_id!r} belongs to another request: {', '.join(parts)} differ; use another id, or "
                "if_different='attach' to get that call's answer",
                differing=parts,
                call_id=self._call_id,
            )

    def _execution_timeout(self) -> timedelta:
        if self._request.deadline_at is not None:
            return max(self._request.deadline_at - datetime.now(UTC), timedelta(0)) + EXECUTION_GRACE
        return timedelta(seconds=self._request.deadline_after_s or 0) + EXECUTION_GRACE

    def _search_attributes(self) -> TypedSearchAttributes:
        if not self._request.search_attributes:
            return TypedSearchAttributes.empty
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(search_attributes.MODEL, self._request.models[0].name),
            SearchAttributePair(search_attributes.OUTCOME, CallOutcome.RUNNING.value),
            SearchAttributePair(search_attributes.ATTEMPTS, 0),
        ]
        if self._request.session is not None:
            pairs.append(SearchAttributePair(search_attributes.SESSION, self._request.session))
        return TypedSearchAttributes(pairs)

    def _summary(self) -> str:
        """The chain and the size: what an operator sees in the list, without a word of the prompt."""
        chain = " → ".join(spec.name for spec in self._request.models[:4])
        more = f" (+{len(self._request.models) - 4})" if len(self._request.models) > 4 else ""
        count = len(self._prompt.messages)
        size = len(self._prompt.model_dump_json())
        return f"{chain}{more}, {count} message{'s' if count > 1 else ''}, {max(1, round(size / 1000))} kB"


def _check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise InvalidRequestError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def _supported(config: LLMConfig, validators: Collection[str]) -> LLMConfig:
    """Refuse what no worker of this version can do."""
    if validators:
        raise InvalidRequestError("validators: workers of this version register none; check the result instead")
    if asked := [spec.name for spec in config.models if spec.responses_api]:
        raise InvalidRequestError(
            f"responses_api: workers of this version speak Chat Completions only; leave it out for {', '.join(asked)}"
        )
    return config


def _policy(policy: Policy | Mapping[str, Any] | None) -> Policy:
    if isinstance(policy, Policy):
        return policy
    try:
        return Policy.model_validate(dict(policy or {}))
    except ValidationError as error:
        raise InvalidRequestError(f"policy: {describe_validation_error(error)}") from None


def _deadline(deadline: Deadline) -> tuple[float | None, datetime | None]:
    """Seconds from acceptance, or a moment: exactly one of the two."""
    if isinstance(deadline, timedelta):
        if deadline <= timedelta(0):
            raise InvalidRequestError("deadline: expected a duration above zero")
        return deadline.total_seconds(), None
    if not isinstance(deadline, datetime):
        raise InvalidRequestError(f"deadline: expected a timedelta or a datetime, got {type(deadline).__name__}")
    if deadline.tzinfo is None:
        raise InvalidRequestError("deadline: the datetime has no time zone; write datetime(..., tzinfo=UTC)")
    if deadline <= datetime.now(UTC):
        raise InvalidRequestError("deadline: lies in the past")
    return None, deadline.astimezone(UTC)


def _check_call_id(call_id: str) -> str:
    if not isinstance(call_id, str) or not call_id.strip():
        raise InvalidRequestError("call_id: expected a text that is not empty")
    if len(call_id.encode()) > _MAX_ID_BYTES:
        raise InvalidRequestError(f"call_id: takes {len(call_id.encode()):,} bytes and Temporal allows {_MAX_ID_BYTES:,}")
    if _CONTROL.search(call_id):
        raise InvalidRequestError("call_id: holds a control character")
    if find_literal_key(call_id):
        raise InvalidRequestError("call_id: holds what looks like a key; ids are shown everywhere")
    return call_id


def _check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    checked = dict(metadata or {})
    if any(not isinstance(key, str) or not isinstance(value, str) for key, value in checked.items()):
        raise InvalidRequestError("metadata: expected texts under texts")
    if any(find_literal_key(value) for value in checked.values()):
        raise InvalidRequestError("metadata: holds what looks like a key; metadata is shown in the Temporal UI")
    if sum(len(key.encode()) + len(value.encode()) for key, value in checked.items()) > _MAX_METADATA_BYTES:
        raise InvalidRequestError(f"metadata: the limit is {_MAX_METADATA_BYTES:,} bytes in all")
    return checked
