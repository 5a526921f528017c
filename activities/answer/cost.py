"""What an answer costs: by the operator's own prices, or else by litellm's list."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from durable_llm.contract.ledger import Usage

from ..litellm_setup import price, price_of_tokens

_MILLION: Final = 1_000_000


class Price(BaseModel):
    """What an operator pays for a model, in USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(0.0, ge=0)
    cache_read: float | None = Field(None, ge=0)
    """Of prompt tokens from the provider's cache. None: as `input`."""
    cache_creation: float | None = Field(None, ge=0)
    """Of prompt tokens written to the provider's cache. None: as `input`."""

    def of(self, usage: Usage) -> float:
        """The price of these tokens, in USD."""
        plain = max(usage.prompt_tokens - usage.cache_read_tokens - usage.cache_creation_tokens, 0)
        tokens_by_price = (
            (plain, self.input),
            (usage.cache_read_tokens, self.input if self.cache_read is None else self.cache_read),
            (usage.cache_creation_tokens, self.input if self.cache_creation is None else self.cache_creation),
            (usage.completion_tokens, self.output),
        )
        return sum(tokens * price for tokens, price in tokens_by_price) / _MILLION


UNKNOWN_PRICE: Final = Price(input=5.0, output=25.0)
"""Of a model without a price, where an estimate is needed: that of a large model in 2026."""

_own: dict[str, Price] = {}
"""The operator's prices by the names of specs; for the whole process, as litellm's list is."""


def set_prices(prices: Mapping[str, Any]) -> None:
    """Use these prices for the specs of these names, in place of litellm's.

    Raises:
        pydantic.ValidationError: (a ValueError) one of them is not a Price.
    """
    checked = {name: Price.model_validate(price) for name, price in prices.items()}
    _own.clear()
    _own.update(checked)


def cost_of(response: Any, model: str, usage: Usage | None) -> float | None:
    """Cost of a response in USD. None: its tokens or their price are unknown.

    Args:
        response: litellm's return value.
        model: The spec's name.
        usage: Its tokens.
    """
    own = _own.get(model)
    if own is None:
        return price(response, model)
    return own.of(usage) if usage is not None else None


def estimate_of(model: str, usage: Usage) -> float:
    """What tokens may cost in USD; by `UNKNOWN_PRICE` if the model has no price.

    Args:
        model: The spec's name.
        usage: Estimated tokens.
    """
    own = _own.get(model)
    listed = None if own else price_of_tokens(model, usage.prompt_tokens, usage.completion_tokens)
    return listed if listed is not None else (own or UNKNOWN_PRICE).of(usage)
