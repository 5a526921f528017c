"""The exception for a fault on our own side, found before anything is sent."""

from durable_llm.contract.facts import LocalFault


class LocalFaultError(Exception):
    """Nothing was sent. The text says why and what to set. It holds no key.

    Args:
        fault: The fault for the attempt's facts.
        text: The same in words.
    """

    def __init__(self, fault: LocalFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
