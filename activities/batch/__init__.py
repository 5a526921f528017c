"""Attempts in a provider's Batch API: the request that a line holds, the batch, and the line's answer."""
