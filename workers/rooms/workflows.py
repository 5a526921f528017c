"""The call and its policy. Light: no litellm."""

from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__ == "workers.rooms":
    from workflows.llm_call import LLMCall
    from workflows.policy.decide import Decision, Progress
    from workflows.policy.versions import CURRENT, FIRST, VERSIONS, PolicyVersion
else:
    from ...workflows.llm_call import LLMCall
    from ...workflows.policy.decide import Decision, Progress
    from ...workflows.policy.versions import CURRENT, FIRST, VERSIONS, PolicyVersion

__all__ = ["CURRENT", "FIRST", "VERSIONS", "Decision", "LLMCall", "PolicyVersion", "Progress"]
