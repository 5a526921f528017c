"""Budgets: how much money calls may spend together, and what workers and a budget's workflow say to each other."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from durable_llm.contract.chains import read_declared
from durable_llm.contract.names import BUDGET_WORKFLOW
from durable_llm.contract.wire import Strict, Wire

Usd = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BudgetOnWire(Wire):
    """A budget as a worker reads it."""

    name: Annotated[str, Field(pattern=r"^[^\s/][^\x00-\x1f/]*$", max_length=100)]
    """All calls that name it share it."""
    hard: Usd | None = None
    """USD that the calls may spend."""
    soft: Usd | None = None
    """USD from which on it warns."""
    on_spent: Literal["refuse", "pause"] = "refuse"
    """What becomes of a call that would exceed `hard`: it ends with BudgetExceededError, or waits for a raise."""
    per: Literal["day"] | None = None
    """Whether each day, in UTC, has the amount anew."""

    def name_at(self, now: datetime) -> str:
        """The budget's name at a moment: those of a day have its date behind them."""
        return f"{self.name}/{now:%Y-%m-%d}" if self.per == "day" else self.name


class Budget(BudgetOnWire, Strict):
    """An amount of money that calls share.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field, or without an amount.
    """

    model_config = Strict.model_config

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.hard is None and self.soft is None:
            raise ValueError("expected hard or soft, an amount in USD")
        return self


class DeclaredBudget(Budget):
    """A budget of the operator's file, and whose it is."""

    model_config = Strict.model_config

    tenant: str | None = None
    session: str | None = None

    @model_validator(mode="after")
    def _is_somebodys(self) -> Self:
        if self.tenant is None and self.session is None:
            raise ValueError("expected tenant or session, whose budget it is")
        return self

    def covers(self, tenant: str | None, session: str | None) -> bool:
        """Whether it is a budget of calls with these labels."""
        return self.tenant in (None, tenant) and self.session in (None, session)


def budgets_of(
    own: Iterable[Budget], *, tenant: str | None, session: str | None, environment: Mapping[str, str] | None = None
) -> list[BudgetOnWire]:
    """The budgets of a call: its own, and those that the operator's file declares for its tenant or session.

    Args:
        own: What the caller gave.
        tenant: The call's.
        session: The call's.
        environment: Where DURABLE_LLM_CHAINS is. None: the process's.

    Raises:
        ValueError: the file or a budget in it is wrong; names the budget.
    """
    found = {budget.name: BudgetOnWire(**budget.model_dump()) for budget in own}
    for declared in read_declared("budgets", DeclaredBudget, environment):
        if declared.covers(tenant, session):
            found[declared.name] = BudgetOnWire(**declared.model_dump())
    return list(found.values())


def budget_id(task_queue: str, name: str) -> str:
    """The id of the workflow that keeps a budget of this name."""
    return f"budgets/{task_queue}/{name}"


def budget_start(task_queue: str, name: str) -> WithStartWorkflowOperation[Any, Any]:
    """Starts the workflow of a budget with the first update that it gets.

    Args:
        task_queue: The calls' queue.
        name: The budget's, at the moment.
    """
    return WithStartWorkflowOperation(
        BUDGET_WORKFLOW, BudgetStart(name=name), id=budget_id(task_queue, name), task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE, static_summary=f"budget {name}",
    )  # fmt: skip


class Reservation(Wire):
    """What an attempt is about to spend."""

    call_id: str
    attempt: int
    usd: float
    """An estimate."""
    lasts_s: float = 86_400.0
    """Seconds after which an attempt that has not settled was lost, and its estimate is spent."""
    hard: float | None = None
    soft: float | None = None
    pauses: bool = False
    """Whether the call will wait if it is refused."""


class Settlement(Wire):
    """What an attempt has spent."""

    call_id: str
    attempt: int
    usd: float | None
    """None: nobody knows, and the estimate counts."""


class Reserved(Wire):
    """The answer to a reservation."""

    outcome: Literal["granted", "waits", "refused"]
    spent: float
    reserved: float
    hard: float | None
    warns: bool = False
    """Whether the soft limit is exceeded."""


class BudgetRaise(Wire):
    """New limits of a budget in USD; None: as it is."""

    hard: Usd | None = None
    soft: Usd | None = None


class BudgetStatus(Wire):
    """What a budget is at."""

    name: str
    hard: float | None = None
    soft: float | None = None
    spent: float = 0.0
    """USD, of attempts that have ended."""
    reserved: float = 0.0
    """USD that attempts in flight may take, by estimate."""
    estimated: float = 0.0
    """The part of `spent` that nobody knows exactly."""
    waiting: int = 0
    """Calls that wait for a raise, or for attempts in flight to settle."""


class BudgetStart(Wire):
    """What the workflow of a budget begins with."""

    name: str
    state: dict[str, object] = Field(default_factory=dict)
    """What its last run knew."""
