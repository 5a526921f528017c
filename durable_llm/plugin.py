"""`DurableLLMPlugin`: calls on a Temporal worker of your own.

    from durable_llm.plugin import DurableLLMPlugin

    worker = Worker(client, task_queue="mine", workflows=[MyAgent], plugins=[DurableLLMPlugin()])

Needs the extra `worker`. A module of its own, so that `import durable_llm` stays light.
"""

from typing import TYPE_CHECKING

from durable_llm.rooms import room

if TYPE_CHECKING:
    from workers.plugin import DurableLLMPlugin
else:
    DurableLLMPlugin = room("workers.plugin").DurableLLMPlugin

__all__ = ["DurableLLMPlugin"]
