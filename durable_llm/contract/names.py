"""Every name that crosses a process boundary, spelled once.

The client, the workflow, the activities and the workers share these strings and no code: the workflow never imports the
activity, the client never imports the workflow. Changing a name breaks calls in flight.
"""

from typing import Final

TASK_QUEUE: Final = "durable-llm"
"""Default task queue of calls and their attempts."""

WORKFLOW: Final = "LLMCall"
ATTEMPT_ACTIVITY: Final = "provider_attempt"

COLLECTOR_WORKFLOW: Final = "LLMBatchCollector"
BATCH_WORKFLOW: Final = "LLMProviderBatch"
COLLECT_SIGNAL: Final = "collect"
SEND_BATCH_ACTIVITY: Final = "send_provider_batch"
POLL_BATCH_ACTIVITY: Final = "poll_provider_batch"
CANCEL_BATCH_ACTIVITY: Final = "cancel_provider_batch"
SETTLE_BATCH_ACTIVITY: Final = "settle_provider_batch"

QUOTA_WORKFLOW: Final = "LLMQuota"
REPORT_SIGNAL: Final = "report"
DECLARE_SIGNAL: Final = "declare"
QUOTA_QUERY: Final = "quota"
SET_RATE_ACTIVITY: Final = "set_quota_rate"

BUDGET_WORKFLOW: Final = "LLMBudget"
RESERVE_UPDATE: Final = "reserve"
RAISE_UPDATE: Final = "raise"
SETTLE_SIGNAL: Final = "settle"
BUDGET_QUERY: Final = "budget"
RESUME_SIGNAL: Final = "resume"
"""To a call: what it waits for has come."""

HOLD_WORKFLOW: Final = "LLMHold"
HOLD_QUERY: Final = "holds"
WAIT_SIGNAL: Final = "wait"
RELEASE_SIGNAL: Final = "release"

RETRY_UPDATE: Final = "retry"
SKIP_UPDATE: Final = "skip"
REPLACE_UPDATE: Final = "replace"
PAUSE_UPDATE: Final = "pause"
RESUME_UPDATE: Final = "resume"
END_UPDATE: Final = "end"
EXTEND_UPDATE: Final = "extend"

NOT_BEGUN: Final = "NotBegun"
"""ApplicationError type of a refused update that came before the first task of the call, or of its next run."""

HEARTBEAT_TIMEOUT_FUNCTION: Final = "durable_llm_heartbeat_timeout"
"""Extern function of a worker that returns how long an attempt may go without a heartbeat."""

QUOTA_QUEUE_FUNCTION: Final = "durable_llm_quota_queue"
"""Extern function of a worker with quotas; it returns the task queue of a model's attempts."""

ATTEMPT_ENDED_FUNCTION: Final = "durable_llm_attempt_ended"
"""Extern function of a worker with telemetry; it receives the ledger entry of each attempt that ended."""

STORE_FUNCTION: Final = "durable_llm_store"
"""Extern function of a worker that has a store; what it returns says nothing."""

STORE_MARK: Final = "durable-llm-store"
"""Metadata of a payload that the codec of a worker with a store puts there."""

ATTEMPTS_QUERY: Final = "attempts"
STATUS_QUERY: Final = "status"
STREAM_QUERY: Final = "__temporal_workflow_stream_poll"
"""The query of `temporalio.contrib.workflow_streams`."""

MEMO_FINGERPRINT: Final = "fingerprint"
MEMO_METADATA: Final = "metadata"

ATTEMPT_FAILED: Final = "ProviderAttemptFailed"
"""ApplicationError type of an attempt that ended with facts instead of an answer."""

WORKER_SHUTDOWN: Final = "WorkerShutdown"
"""ApplicationError type that Temporal's Python SDK gives to an activity cut off by a worker's shutdown."""

DECRYPTION_ERROR: Final = "DecryptionError"
"""Class name of `durable_llm.errors.DecryptionError`, which Temporal stores as the type of the failure's cause."""

FIRST_SCHEMA_VERSION: Final = 1

SECOND_SCHEMA_VERSION: Final = 2
"""Since then there are validators, stored prompts and background responses."""

EMBEDDING_VERSION: Final = 3
"""Since then there are texts to embed."""

BATCH_VERSION: Final = 4
"""Since then models are asked in a provider's batches."""

BUDGET_VERSION: Final = 5
"""Since then calls have budgets."""

PARK_VERSION: Final = 6
"""Since then a policy may park a call."""

EXTEND_VERSION: Final = 7
"""Since then a call carries its ledger into another run."""

SCHEMA_VERSION: Final = EXTEND_VERSION
"""The newest version that this code knows. It is raised when older workers would get a request wrong by ignoring a new
field. A request names the version that it needs, so a request without anything new still runs on older workers."""
