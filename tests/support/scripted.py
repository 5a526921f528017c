"""The scripted edge: an activity that answers or fails as a test says, under the real workflow and a real server."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import FailureFacts, Sent
from durable_llm.contract.ledger import Usage
from durable_llm.contract.names import ATTEMPT_ACTIVITY, ATTEMPT_FAILED
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer, Choice

Step = Answer | FailureFacts | Callable[[AttemptOrder], Any] | BaseException


def fresh_id() -> str:
    """An id that no other test has."""
    return f"call-{uuid.uuid4()}"


def answer(text: str = "2", **fields: Any) -> Answer:
    """An answer worth a cent."""
    return Answer(**{
        "choices": [Choice(text=text, finish_reason="stop")], "model": "gpt-4o-mini-2024-07-18", "cost": 0.01,
        "usage": Usage(prompt_tokens=5, completion_tokens=1), "request_id": "req_1", "http_status": 200,
        "duration_s": 0.5, **fields,
    })  # fmt: skip


def http_error(status: int, code: str | None = None, text: str = "", **fields: Any) -> FailureFacts:
    """A provider's refusal by HTTP status."""
    return FailureFacts(http_status=status, error_code=code, text=text, request_sent=Sent.YES, **fields)


class ScriptedProvider:
    """Plays its steps in order, repeats the last one, and keeps every order."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = list(steps)
        self.orders: list[AttemptOrder] = []
        self.prompts: list[Prompt | ContentReference | None] = []

    @property
    def models(self) -> list[str]:
        """The models asked, in order."""
        return [order.spec.name for order in self.orders]

    @activity.defn(name=ATTEMPT_ACTIVITY)
    async def provider_attempt(self, order: AttemptOrder, prompt: Prompt | ContentReference | None) -> Answer:
        """One step of the script."""
        self.orders.append(order)
        self.prompts.append(prompt)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if callable(step):
            step = step(order)
            if asyncio.iscoroutine(step):
                step = await step
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, FailureFacts):
            raise ApplicationError(
                step.headline(), step, type=ATTEMPT_FAILED, non_retryable=True,
                category=ApplicationErrorCategory.BENIGN,
            )  # fmt: skip
        assert isinstance(step, Answer)
        return step


def once_open(gate: asyncio.Event, step: Answer | FailureFacts) -> Step:
    """A step that comes to this once the gate is open."""

    async def waits(_: AttemptOrder) -> Answer | FailureFacts:
        await gate.wait()
        return step

    return waits


async def never(_: AttemptOrder) -> Answer:
    """A provider that does not answer; heartbeats so that a cancellation arrives."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.1)
