"""The updates by which an operator steers a call in flight, and what they change.

An update is refused, and leaves nothing in the history, where it makes no sense: its validator says what would. One
that is accepted is kept in the ledger with who and why. Each takes one object, so that the Temporal UI can send it too.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.categories import CallOutcome
    from durable_llm.contract.control import Told, ToldToEnd, ToldToExtend, ToldToReplace, ToldToSkip
    from durable_llm.contract.names import (
        END_UPDATE,
        EXTEND_UPDATE,
        NOT_BEGUN,
        PAUSE_UPDATE,
        REPLACE_UPDATE,
        RESUME_UPDATE,
        RETRY_UPDATE,
        SKIP_UPDATE,
    )
    from durable_llm.contract.request import CHAT, MAX_DEADLINE_S, MAX_REQUEST_BYTES, CallRequest
    from durable_llm.contract.result import Answer, Choice
    from durable_llm.contract.wire import describe_validation_error

    from .decision_log import log_intervention
    from .ledger import CallLedger
    from .policy.decide import Progress
    from .policy.steering import extended, rechained, resumed, skipped
    from .request import ABSENT

_T = TypeVar("_T", bound=Told)


class Steered:
    """A call as operators steer it; `LLMCall` walks its chain."""

    _ledger: CallLedger
    _request: CallRequest | None = None
    """None until the call has begun."""
    _progress: Progress
    _deadline: datetime

    def __init__(self) -> None:
        self._asking: asyncio.Task[object] | None = None
        """The attempt that is under way."""
        self._skipping = False
        """Whether that attempt is given up."""
        self._woken = False
        """Whether the current wait is over."""
        self._paused = False
        self._parked: str | None = None
        """Why the call is parked. None: it is not."""
        self._moves = False
        """Whether the deadline was extended: then the next attempt begins in another run, which ends later."""
        self._given: Answer | None = None
        self._needs_all_messages: set[int] = set()
        """Models that no longer have the response to continue from."""

    @workflow.update(name=RETRY_UPDATE)
    def retry(self, told: RawValue = ABSENT) -> None:
        """Ask now instead of after the wait."""
        self._tell(RETRY_UPDATE, _read(told, Told))
        self._go_on()

    @retry.validator
    def _may_retry(self, told: RawValue = ABSENT) -> None:
        _read(told, Told)
        self._begun()
        if self._paused:
            raise _refused("the call is paused: resume it")
        if self._asking is not None:
            raise _refused("an attempt is under way: wait for it, or skip it")

    @workflow.update(name=SKIP_UPDATE)
    def skip(self, told: RawValue = ABSENT) -> None:
        """Leave the current model for the next one. Its attempt is given up, unless its answer is there already."""
        self._tell(SKIP_UPDATE, _read(told, ToldToSkip))
        if self._asking is not None:
            self._skipping = True
            self._asking.cancel()
        else:
            self._progress = skipped(self._progress)
            self._woken = True

    @skip.validator
    def _may_skip(self, told: RawValue = ABSENT) -> None:
        model = _read(told, ToldToSkip).model
        current = self._begun().models[self._progress.spec_index].name
        if self._parked:
            raise _refused("the call is parked, since no model answered: resume it, or replace its models")
        if model not in (None, current):
            raise _refused(f"the call is at {current}, not at {model}")
        if not self._progress.has_next or self._skipping:
            raise _refused(f"no model follows {current}: replace those that follow first")

    @workflow.update(name=REPLACE_UPDATE)
    def replace(self, told: RawValue = ABSENT) -> None:
        """Ask other models after the current one; a parked call has no current one."""
        read = _read(told, ToldToReplace)
        self._tell(REPLACE_UPDATE, read)
        request, kept = self._begun(), self._kept
        self._request = request.model_copy(update={"models": [*request.models[:kept], *read.models]})
        self._needs_all_messages = {index for index in self._needs_all_messages if index < kept}
        self._progress = rechained(self._progress, kept, [spec.max_retries for spec in read.models])

    @replace.validator
    def _may_replace(self, told: RawValue = ABSENT) -> None:
        request = self._begun()
        models = [*request.models[: self._kept], *_read(told, ToldToReplace).models]
        if request.operation != CHAT:
            raise _refused(
                "the models of a call that embeds texts cannot be replaced: vectors of two models do not mix"
            )
        if len(request.model_copy(update={"models": models}).model_dump_json()) > MAX_REQUEST_BYTES:
            raise _refused(f"models: the chain takes more than {MAX_REQUEST_BYTES:,} bytes")

    @workflow.update(name=PAUSE_UPDATE)
    def pause(self, told: RawValue = ABSENT) -> None:
        """Begin no attempt until the call is resumed. One that is under way goes on, and its answer counts."""
        read = _read(told, Told)
        self._tell(PAUSE_UPDATE, read)
        self._paused = True
        self._show(outcome=CallOutcome.PAUSED.value)

    @pause.validator
    def _may_pause(self, told: RawValue = ABSENT) -> None:
        _read(told, Told)
        self._begun()
        if self._paused or self._parked:
            raise _refused(f"the call is {'paused' if self._paused else 'parked'} already")

    @workflow.update(name=RESUME_UPDATE)
    def resume_by_operator(self, told: RawValue = ABSENT) -> None:
        """Let a paused call go on, or a parked one start its chain again."""
        self._tell(RESUME_UPDATE, _read(told, Told))
        self._paused = False
        if self._parked:
            self._go_on()
        else:
            self._show(outcome=CallOutcome.RUNNING.value)

    @resume_by_operator.validator
    def _may_resume(self, told: RawValue = ABSENT) -> None:
        _read(told, Told)
        self._begun()
        if not (self._paused or self._parked):
            raise _refused("the call is neither paused nor parked: 'retry' ends a wait")

    @workflow.update(name=EXTEND_UPDATE)
    def extend(self, told: RawValue = ABSENT) -> None:
        """Give the call a later deadline. An attempt that is under way keeps the limit that it began with."""
        read = _read(told, ToldToExtend)
        self._tell(EXTEND_UPDATE, read)
        self._progress = extended(self._progress, (read.deadline - self._deadline).total_seconds())
        self._deadline = read.deadline.astimezone(UTC)
        self._moves = True

    @extend.validator
    def _may_extend(self, told: RawValue = ABSENT) -> None:
        deadline = _read(told, ToldToExtend).deadline
        self._begun()
        info = workflow.info()
        if info.execution_timeout and info.workflow_start_time + info.execution_timeout < deadline:
            raise _refused("its client set a limit that Temporal cannot extend: submit the request again with a new id")
        if deadline <= self._deadline:
            raise _refused(f"its deadline is {self._deadline:%Y-%m-%d %H:%M:%S} UTC: name a later moment")
        if deadline - workflow.now() > (longest := timedelta(seconds=MAX_DEADLINE_S)):
            raise _refused(f"deadline: at most {longest.days} days from now")

    @workflow.update(name=END_UPDATE)
    def end(self, told: RawValue = ABSENT) -> None:
        """End the call with an answer that the operator gives. An attempt that is under way is given up."""
        read = _read(told, ToldToEnd)
        self._tell(END_UPDATE, read)
        choice = Choice(text=read.text, finish_reason="stop")
        self._given = Answer(choices=[choice], cost=0.0)

    @end.validator
    def _may_end(self, told: RawValue = ABSENT) -> None:
        _read(told, ToldToEnd)
        if self._begun().operation != CHAT:
            raise _refused("a call that embeds texts has vectors for an answer: cancel it")
        if self._given is not None:
            raise _refused("the call has been given an answer already")

    @property
    def _kept(self) -> int:
        """How many models of the chain stay when the rest is replaced."""
        return 0 if self._parked else self._progress.spec_index + 1

    def _begun(self) -> CallRequest:
        """The request of a call that has begun."""
        if self._request is None:
            raise _refused("the call is only starting: try again", NOT_BEGUN)
        return self._request

    def _go_on(self) -> None:
        """End the current wait."""
        if self._parked:
            self._parked = None
            self._progress = resumed(self._progress)
            self._show(outcome=CallOutcome.RUNNING.value)
        self._woken = True

    def _tell(self, action: str, told: Told) -> None:
        self._ledger.told(action, told, workflow.now())
        log_intervention(self._ledger.interventions[-1])
        self._shows_again()

    def _shows_again(self) -> None:
        raise NotImplementedError

    def _show(self, **values: object) -> None:
        raise NotImplementedError


def _read(raw: RawValue, kind: type[_T]) -> _T:
    """What an update was given.

    Raises:
        ApplicationError: it cannot be read; says why.
    """
    try:
        told: _T | None = None if raw is ABSENT else workflow.payload_converter().from_payload(raw.payload, kind)
        return kind.model_validate(told or {})
    except ValidationError as error:
        raise _refused(describe_validation_error(error)) from None
    except Exception as error:  # whatever a converter raises for an encoding that it does not have
        raise _refused(f"its argument cannot be decoded: {type(error).__name__}") from None


def _refused(why: str, kind: str = "Refused") -> ApplicationError:
    return ApplicationError(why, type=kind, non_retryable=True)
