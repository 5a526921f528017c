"""The clock between the pieces of a stream, where the spec says nothing."""

import pytest

from activities.pace import SILENCE_S, Pace
from activities.request.provider_request import ProviderRequest
from durable_llm.contract.config import ModelSpecOnWire


@pytest.mark.parametrize(("written", "expected"), [(None, SILENCE_S), (5.0, 5.0), (900.0, 900.0)])
async def test_a_stream_may_be_silent_for_minutes(written: float | None, expected: float) -> None:
    """Three minutes of thinking between two pieces are no fault; the spec's own clock wins, a longer one too."""
    spec = ModelSpecOnWire(name="openai/o5", token_timeout=written, extra_params={"stream": True})
    pace = Pace(ProviderRequest(spec, "openai", [], {"stream": True}))
    assert pace.token_s == expected
    assert SILENCE_S > 180
