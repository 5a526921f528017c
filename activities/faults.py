"""The one exception for what our own side finds wrong with an attempt before anything is sent."""

from durable_llm.contract.facts import LocalFault


class LocalFaultError(Exception):
    """Nothing was sent; the text says why and what to set, and holds no key.

    Args:
        fault: What the facts of the attempt will name.
        text: The same in words.
    """

    def __init__(self, fault: LocalFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
