"""How the worker's heartbeat timeout reaches the workflow, which reads no environment.

An activity's timeouts are no part of what a replay compares, so a worker may have its own without breaking the calls of
another.
"""

from datetime import timedelta

from temporalio.worker import Interceptor, WorkflowInboundInterceptor, WorkflowInterceptorClassInput

from durable_llm.contract.names import HEARTBEAT_TIMEOUT_FUNCTION


class HeartbeatTimeout(Interceptor):
    """Offers the worker's heartbeat timeout to the workflows that run on it."""

    def __init__(self, heartbeat_timeout: timedelta) -> None:
        self._heartbeat_timeout = heartbeat_timeout

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  # Temporal's own name for it
    ) -> type[WorkflowInboundInterceptor] | None:
        """Register the function; nothing is intercepted."""
        input.unsafe_extern_functions[HEARTBEAT_TIMEOUT_FUNCTION] = lambda: self._heartbeat_timeout
        return None
