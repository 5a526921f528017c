"""The workflow of a batch, and what it is told and tells."""

from datetime import timedelta
from typing import Final

from pydantic import AwareDatetime, BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

RUN_BATCH: Final = "run_batch"
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=30)


class BatchOrder(BaseModel):
    """What a batch does."""

    tenant: str
    chains: list[str] | None
    """The chains that its caller may use; None: all."""
    batch_id: str
    input_file: str
    endpoint: str
    deadline: AwareDatetime


class BatchCounts(BaseModel):
    """How far a batch is."""

    completed: int = 0
    failed: int = 0


class BatchEnd(BatchCounts):
    """How a batch has ended."""

    output_file: str | None = None
    error_file: str | None = None
    expired: bool = False
    """Whether the deadline came before the last answer."""
    cancelled: bool = False


@workflow.defn(name="LLMBatch")
class LLMBatch:
    """Runs a batch to its end, on whichever front is there."""

    @workflow.run
    async def run(self, order: BatchOrder) -> BatchEnd:
        """Run it. A cancelled batch ends with the answers that it had."""
        end: BatchEnd = await workflow.execute_activity(
            RUN_BATCH, order, result_type=BatchEnd, start_to_close_timeout=timedelta(days=30),
            heartbeat_timeout=HEARTBEAT_TIMEOUT, retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )  # fmt: skip
        return end
