"""The call and its policy. Light: no litellm."""

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "workers.rooms":
    from workflows.batches import LLMBatchCollector, LLMProviderBatch
    from workflows.budget import LLMBudget
    from workflows.hold import LLMHold
    from workflows.llm_call import LLMCall
    from workflows.policy.decide import PROGRESS_ON_WIRE, Decision, Progress
    from workflows.policy.versions import CURRENT, FIRST, VERSIONS, PolicyVersion
    from workflows.quota import LLMQuota
    from workflows.request import RefuseSurplusArguments
else:
    from ...workflows.batches import LLMBatchCollector, LLMProviderBatch
    from ...workflows.budget import LLMBudget
    from ...workflows.hold import LLMHold
    from ...workflows.llm_call import LLMCall
    from ...workflows.policy.decide import PROGRESS_ON_WIRE, Decision, Progress
    from ...workflows.policy.versions import CURRENT, FIRST, VERSIONS, PolicyVersion
    from ...workflows.quota import LLMQuota
    from ...workflows.request import RefuseSurplusArguments

__all__ = [
    "CURRENT",
    "FIRST",
    "PROGRESS_ON_WIRE",
    "VERSIONS",
    "Decision",
    "LLMBatchCollector",
    "LLMBudget",
    "LLMCall",
    "LLMHold",
    "LLMProviderBatch",
    "LLMQuota",
    "PolicyVersion",
    "Progress",
    "RefuseSurplusArguments",
]
