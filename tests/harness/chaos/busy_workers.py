"""How many attempts each worker makes: Temporal knows who makes each attempt that has not ended."""

from collections import Counter

from temporalio.client import Client


async def attempts_by_worker(client: Client) -> Counter[int]:
    """How many attempts each worker makes now, by its process id."""
    found: Counter[int] = Counter()
    async for listed in client.list_workflows("ExecutionStatus = 'Running'"):
        description = await client.get_workflow_handle(listed.id).describe()
        for attempt in description.raw_description.pending_activities:
            if attempt.last_worker_identity:
                found[int(attempt.last_worker_identity.partition("@")[0])] += 1
    return found
