"""Who shares the workers and quotas: a call's tenant and priority, as Temporal keeps them."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field
from temporalio.common import Priority

from durable_llm.contract.chains import CHAINS_VARIABLE, read_section
from durable_llm.contract.wire import Wire

LONGEST_TENANT_BYTES: Final = 64
"""Temporal's limit for a fairness key."""

LEAST_URGENT: Final = 5


class Share(Wire):
    """A call's place among others that wait for the same workers or the same quota."""

    tenant: str | None = None
    """Tenants take turns, in proportion to their weights; Temporal's fairness key."""
    priority: Annotated[int, Field(ge=1, le=LEAST_URGENT)] | None = None
    """1 goes first, 5 last; Temporal's priority key. None: 3."""
    weight: float | None = None
    """The tenant's, from the operator's file. None: 1."""

    @property
    def for_temporal(self) -> Priority:
        """What a workflow is started with. Its attempts inherit it."""
        return Priority(priority_key=self.priority, fairness_key=self.tenant, fairness_weight=self.weight)


def weight_of(tenant: str | None, environment: Mapping[str, str] | None = None) -> float | None:
    """The weight that the operator's file gives a tenant. None: none, which is 1.

    Args:
        tenant: Its name.
        environment: Where DURABLE_LLM_CHAINS is. None: the process's.

    Raises:
        ValueError: the file is wrong; names the tenant.
    """
    weights = read_section("tenants", environment)
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.001 <= weight <= 1000:
            raise ValueError(f"{CHAINS_VARIABLE}: tenants: {name}: expected a weight from 0.001 to 1000")
    return float(weights[tenant]) if tenant in weights else None
