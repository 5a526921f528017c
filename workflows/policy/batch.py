"""When a model is asked in a provider's batch, and for how long its line is waited for."""

from typing import Final

LIVE_RESERVE_S: Final = 3600.0
"""Seconds before the deadline that are kept for asking live, and the models after it."""

LEAST_S: Final = 2 * LIVE_RESERVE_S
"""A line that could be waited for less long than this is not worth sending. OpenAI and Anthropic promise 24 hours and
end most batches within one: https://platform.openai.com/docs/guides/batch,
https://docs.anthropic.com/en/docs/build-with-claude/batch-processing."""


def batch_time(remaining_s: float, *, try_number: int) -> float | None:
    """Seconds to wait for a line. None: ask live.

    Args:
        remaining_s: Seconds until the call's deadline.
        try_number: Of the attempt on this model. A line that has failed twice is not sent a third time.
    """
    waited = remaining_s - LIVE_RESERVE_S
    return waited if waited >= LEAST_S and try_number <= _LINES else None


_LINES: Final = 2
