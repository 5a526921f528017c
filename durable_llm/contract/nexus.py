"""The Nexus service through which workflows of other namespaces make calls, and attach to them by id."""

import nexusrpc
from pydantic import Field

from durable_llm.contract.request import CallRequest, Prompt
from durable_llm.contract.result import LLMResult
from durable_llm.contract.tenants import Share
from durable_llm.contract.wire import Wire


class NexusCall(Wire):
    """One call, as an operation's input."""

    call_id: str
    request: CallRequest
    prompt: Prompt
    fingerprint: dict[str, str] = Field(default_factory=dict)
    """Hashes of what the caller wrote, to compare with a call that has the id already."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Labels for operators."""
    share: Share = Share()


@nexusrpc.service(name="DurableLLM")
class DurableLLMService:
    """Calls over Nexus."""

    call: nexusrpc.Operation[NexusCall, LLMResult]
