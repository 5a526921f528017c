"""The attempts of a call, for clients that want them in the body."""

from typing import Any, Final

from starlette.requests import Request

from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError

LEDGER: Final = "x-durable-llm-ledger"


def wants_ledger(request: Request) -> bool:
    """Whether the client wants the attempts in the body."""
    return request.headers.get(LEDGER, "").lower() == "true"


def ledger_of(ended: LLMResult | DurableLLMError) -> dict[str, Any]:
    """The attempts of a call, and what they cost where that is known."""
    entries = [entry.model_dump(mode="json", exclude_none=True) for entry in ended.attempts]
    cost = {"cost_usd": ended.total_cost} if isinstance(ended, LLMResult) and ended.cost_complete else {}
    return {"attempts": entries, **cost}
