"""The exceptions for what our own side finds."""

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


class TokenTimeoutError(Exception):
    """No piece of an answer came in time. The text says in how many seconds."""
