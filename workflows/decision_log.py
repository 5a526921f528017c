"""One log record for each decision of a call and for each thing that an operator tells it; none in a replay.

A record has its parts as `fields` too, for a formatter that writes JSON. No provider's sentence is in it.
"""

import logging
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.categories import Action, Category
    from durable_llm.contract.ledger import Attempt, Intervention

_logger = workflow.LoggerAdapter(logging.getLogger("durable_llm.calls"), None)
_logger.workflow_info_on_message = False
_logger.workflow_info_on_extra = False

_LOUD = (Action.FAIL, Action.PARK)


def log_decision(entry: Attempt, delay_s: float | None) -> None:
    """Log what the call does after a failed attempt.

    Args:
        entry: The attempt's ledger entry.
        delay_s: Seconds until the next attempt. None: it comes at once, or never.
    """
    loud = entry.decision in _LOUD or entry.category == Category.MISCONFIGURED
    fields = {
        "attempt": entry.number, "model": entry.model, "category": entry.category, "http_status": entry.http_status,
        "decision": entry.decision, "rule": entry.rule, "delay_s": None if delay_s is None else round(delay_s, 3),
    }  # fmt: skip
    after = "" if delay_s is None else f" in {delay_s:.1f} s"
    text = f"attempt {entry.number} of {entry.model}: {entry.category}, {entry.decision}{after} ({entry.rule})"
    _log(logging.WARNING if loud else logging.INFO, text, fields)


def log_intervention(told: Intervention) -> None:
    """Log what an operator tells the call."""
    fields = {"attempt": told.after_attempt, "intervention": told.action, "by": told.by, "why": told.why}
    _log(logging.INFO, f"{told.action} by {told.by or 'an operator'}: {told.why}", fields)


def _log(level: int, text: str, fields: dict[str, Any]) -> None:
    call_id = workflow.info().workflow_id
    _logger.log(level, "call %s: %s", call_id, text, extra={"fields": {"call_id": call_id, **fields}})
