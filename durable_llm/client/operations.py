"""What operators ask of all calls: what they have used, which there are, what they may spend, and what none may ask."""

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ValidationError
from temporalio.client import Client

from durable_llm.client.budgets import raise_budget, read_budget
from durable_llm.client.connection import Rpcs, until_answered
from durable_llm.client.handle import CallHandle
from durable_llm.client.holds import find_holds, release_hold, start_hold
from durable_llm.client.listing import CallRow, find_calls
from durable_llm.client.report import Report, conditions, read_report
from durable_llm.contract.budgets import BudgetRaise, BudgetStatus
from durable_llm.contract.holds import Hold
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError


class Operations:
    """What an operator asks of the calls of a task queue."""

    client: Client
    task_queue: str
    attach: Callable[[str], CallHandle]
    _rpcs: Rpcs

    async def report(
        self, *, job: str | None = None, session: str | None = None, since: datetime | None = None,
        limit: int = 10_000,
    ) -> Report:  # fmt: skip
        """What calls have used, whichever program made them. It reads the ledger of each: some 300 a second.

        Args:
            job: Only calls of this job, by its id.
            session: Only calls of this session.
            since: Only calls that were started at this moment or later.
            limit: How many calls at most.

        Raises:
            InvalidRequestError: a name cannot be searched for, or `since` has no time zone.
            DispatcherUnavailableError: the server refused.
        """
        query = conditions(job=job, session=session, since=since)
        return await read_report(await self.find(query, limit + 1), self.attach, limit)

    async def find(self, query: str, limit: int = 10_000) -> list[CallRow]:
        """Calls that a query in Temporal's language finds, the latest first.

        Raises:
            InvalidRequestError, DispatcherUnavailableError: the server refused.
        """
        return await self._rpcs.run(until_answered(lambda: find_calls(self.client, query, limit)))

    async def budget(self, name: str) -> BudgetStatus:
        """What a budget is at.

        Args:
            name: The budget's name; one of a day has its date behind it, as in "research/2026-11-29".

        Raises:
            InvalidRequestError: no call has used it yet.
            DispatcherUnavailableError: the server refused.
        """
        return await self._rpcs.run(until_answered(lambda: read_budget(self.client, self.task_queue, name)))

    async def raise_budget(self, name: str, *, hard: float | None = None, soft: float | None = None) -> BudgetStatus:
        """Raise a budget. Calls that wait for it go on.

        Args:
            name: As for `budget`.
            hard: USD that its calls may spend in all. None: as it is.
            soft: USD from which on it warns. None: as it is.

        Raises:
            InvalidRequestError: an amount is not above zero.
            DispatcherUnavailableError: the server refused.
        """
        try:
            raised = BudgetRaise(hard=hard, soft=soft)
        except ValidationError as error:
            raise InvalidRequestError(f"budget: {describe_validation_error(error)}") from None
        return await self._rpcs.run(until_answered(lambda: raise_budget(self.client, self.task_queue, name, raised)))

    async def hold(
        self, models: str, *, why: str, by: str | None = None, api_key: str | None = None,
        lasts: timedelta | None = None,
    ) -> None:  # fmt: skip
        """Let no call ask an account or a model for now. Attempts under way go on; workers know of it in two seconds.

        Calls wait without spending an attempt. They go on when it is released, a hundred a second.

        Args:
            models: A provider ("openai"), a model ("openai/gpt-4o"), or a pattern ("openai/gpt-4o*").
            why: The reason.
            by: Who. None: this process's user and host.
            api_key: Only the account of this key reference in the specs. None: every account.
            lasts: How long. None: until it is released.

        Raises:
            InvalidRequestError: the same is held already, or an argument is too long.
            DispatcherUnavailableError: the server refused.
        """
        await self._rpcs.run(
            until_answered(
                lambda: start_hold(self.client, self.task_queue, models, why=why, by=by, api_key=api_key, lasts=lasts)
            )
        )

    async def release(self, models: str, *, why: str, by: str | None = None, api_key: str | None = None) -> None:
        """Release what is held.

        Args:
            models: As it was held.
            why: The reason.
            by: Who. None: this process's user and host.
            api_key: As it was held.

        Raises:
            InvalidRequestError: it is not held.
            DispatcherUnavailableError: the server refused.
        """
        await self._rpcs.run(
            until_answered(lambda: release_hold(self.client, self.task_queue, models, why=why, by=by, api_key=api_key))
        )

    async def holds(self) -> list[Hold]:
        """What is held.

        Raises:
            DispatcherUnavailableError: the server refused.
        """
        return await self._rpcs.run(until_answered(lambda: find_holds(self.client, self.task_queue)))
