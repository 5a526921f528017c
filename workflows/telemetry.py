"""How a call tells the worker's telemetry of its attempts' judgements, which nobody else knows.

The workflow knows no spans and no counters: a worker that has telemetry offers a function, as it offers its heartbeat
timeout, and it is that function which heeds replays. It must not touch the call: a call moves between workers with
telemetry and without.
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.ledger import Attempt
    from durable_llm.contract.names import ATTEMPT_ENDED_FUNCTION


def attempt_ended(entry: Attempt) -> None:
    """Tell the worker of an attempt that was judged."""
    tell = workflow.extern_functions().get(ATTEMPT_ENDED_FUNCTION)
    if tell is not None:
        tell(entry)
