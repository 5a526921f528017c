"""Every name that crosses a process boundary, spelled once.

The client, the workflow, the activities and the workers agree on these strings and on nothing else: the workflow never
imports the activity, the client never imports the workflow. Changing one breaks calls in flight.
"""

from typing import Final

TASK_QUEUE: Final = "durable-llm"
"""Task queue that calls and their attempts use unless the caller names another."""

WORKFLOW: Final = "LLMCall"
ATTEMPT_ACTIVITY: Final = "provider_attempt"

HEARTBEAT_TIMEOUT_FUNCTION: Final = "durable_llm_heartbeat_timeout"
"""Function that a worker offers to its workflows: how long an attempt may go without a heartbeat."""

ATTEMPT_ENDED_FUNCTION: Final = "durable_llm_attempt_ended"
"""Function that a worker with telemetry offers to its workflows: is told of each attempt that was judged."""

ATTEMPTS_QUERY: Final = "attempts"
STATUS_QUERY: Final = "status"

MEMO_FINGERPRINT: Final = "fingerprint"
MEMO_METADATA: Final = "metadata"

ATTEMPT_FAILED: Final = "ProviderAttemptFailed"
"""ApplicationError type of an attempt that ended with facts instead of an answer."""

WORKER_SHUTDOWN: Final = "WorkerShutdown"
"""ApplicationError type that Temporal's Python SDK gives to an activity cut off by a worker's shutdown."""

FIRST_SCHEMA_VERSION: Final = 1

SCHEMA_VERSION: Final = 2
"""The newest that this version knows; raised when an older worker must not run a newer client's request by ignoring
what it does not know. A request says which version it needs, so that one without anything new runs on older workers."""
