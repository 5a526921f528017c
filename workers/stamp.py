"""The local activity by which the worker that starts a call stamps its policy version and timings into it."""

from temporalio import activity

from durable_llm.names import STAMP_ACTIVITY
from durable_llm.request import WorkerStamp
from workflows.policy.versions import CURRENT


class Stamper:
    """Stamps calls with this worker's own values."""

    def __init__(self, heartbeat_timeout_s: float) -> None:
        self._stamp = WorkerStamp(policy_version=CURRENT, heartbeat_timeout_s=heartbeat_timeout_s)

    @activity.defn(name=STAMP_ACTIVITY)
    async def worker_stamp(self) -> WorkerStamp:
        """The stamp; runs inside the call's first workflow task, without a round trip to the server."""
        return self._stamp
