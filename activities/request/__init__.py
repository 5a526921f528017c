"""Build a provider's request from an order and a prompt."""
