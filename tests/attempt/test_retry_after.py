"""Every place where providers say how long to wait, and every way to say nonsense there."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.failure.retry_after import LONGEST_WAIT_S, delay_headers, parse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
RETRY_INFO = {"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]}}
OPENROUTER = {
    "error": {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": (EPOCH + 60) * 1000}}}
}

ROWS = [
    ({"retry-after": "7"}, None, "", 7, "retry-after"),
    ({"retry-after": "0"}, None, "try again in 9s", 0, "retry-after"),
    ({"retry-after": "1.5"}, None, "", 1.5, "retry-after"),
    ({"retry-after": "86400"}, None, "", 86400, "retry-after"),
    ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, None, "", 30, "retry-after"),
    ({"retry-after": "Wed, 31 Dec 2025 00:00:00 GMT"}, None, "", 0, "retry-after"),
    ({"retry-after": str(EPOCH + 20)}, None, "", 20, "retry-after"),
    ({"retry-after": "1", "retry-after-ms": "494"}, None, "", 0.494, "retry-after-ms"),
    ({"retry-after": "3", "x-ms-retry-after-ms": "2500"}, None, "", 2.5, "x-ms-retry-after-ms"),
    ({"retry-after": "99999999"}, None, "", LONGEST_WAIT_S, "retry-after"),
    ({}, RETRY_INFO, "Please retry in 34.074s.", 34.07, "retryDelay"),
    ({}, [RETRY_INFO], "", 34.07, "retryDelay"),
    ({}, {"error": {"metadata": {"retry_after_seconds": 12}}}, "", 12, "retry_after_seconds"),
    ({}, None, "Please try again in 6m0s.", 360, "text"),
    ({}, None, "Please try again in 494ms. Visit", 0.494, "text"),
    ({}, None, "Please try again in 2.16s.", 2.16, "text"),
    ({}, None, "Please try again in 20 seconds.", 20, "text"),
    ({}, None, "Please retry after 86400 seconds.", 86400, "text"),
    ({}, None, "Try again in 1h2m3s", 3723, "text"),
    ({}, None, "Please wait 5 minutes before", 300, "text"),
    (
        {"x-ratelimit-reset-tokens": "1m0.052s", "x-ratelimit-remaining-tokens": "0"},
        None,
        "",
        60.052,
        "x-ratelimit-reset-tokens",
    ),
    (
        {
            "x-ratelimit-reset-tokens": "6ms",
            "x-ratelimit-remaining-tokens": "900",
            "x-ratelimit-reset-requests": "2s",
            "x-ratelimit-remaining-requests": "0",
        },
        None,
        "",
        2,
        "x-ratelimit-reset-requests",
    ),
    ({"x-ratelimit-reset": str(EPOCH + 5), "x-ratelimit-remaining": "0"}, None, "", 5, "x-ratelimit-reset"),
    ({"x-ratelimit-reset": str((EPOCH + 5) * 1000)}, None, "", 5, "x-ratelimit-reset"),
    ({}, OPENROUTER, "", 60, "x-ratelimit-reset"),
    (
        {"anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:41Z", "anthropic-ratelimit-tokens-remaining": "0"},
        None,
        "",
        41,
        "anthropic-ratelimit-tokens-reset",
    ),
]


@pytest.mark.parametrize(("headers", "body", "text", "seconds", "source"), ROWS)
def test_waits_are_found_where_providers_say_them(headers, body, text, seconds, source):
    """The most explicit place wins, and it is named."""
    wait = parse(headers, body, text, NOW)

    assert wait is not None
    assert (round(wait.seconds, 6), wait.source) == (seconds, source)


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ({}, None, ""),
        ({"retry-after": "nan"}, None, ""),
        ({"retry-after": "inf"}, None, ""),
        ({"retry-after": "-3"}, None, ""),
        ({"retry-after": "soon"}, None, ""),
        ({"retry-after": "9" * 400}, None, ""),
        ({"retry-after": str(10**12)}, None, ""),
        ({"retry-after": str(10**9)}, None, ""),
        ({"retry-after-ms": str(10**15)}, None, ""),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, None, ""),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, None, ""),
        ({"retry-after": "1e400"}, None, ""),
        ({"retry-after-ms": "many"}, None, "Please try again in a few minutes"),
        ({"x-ratelimit-reset-requests": "6ms", "x-ratelimit-remaining-requests": "9999"}, None, ""),
        ({"x-ratelimit-reset": str(EPOCH - 5), "x-ratelimit-remaining": "0"}, None, ""),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, None, ""),
        ({}, {"error": {"retryDelay": True}}, "retry later"),
        ({}, {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"retryDelay": "3s"}}}}}}}}, ""),
    ],
)
def test_what_says_nothing_gives_no_wait(headers, body, text):
    """Nonsense, windows with room left, moments in the past and vague words are no waits."""
    assert parse(headers, body, text, NOW) is None


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset-tokens"]
)
VALUES = st.text(max_size=30) | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str)
JSON = st.recursive(
    st.none() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["error", "retryDelay", "retry_after", "metadata", "headers"]), inner, max_size=3
        )
        | st.lists(inner, max_size=3)
    ),
)


@given(
    headers=st.dictionaries(NAMES, VALUES), body=JSON, text=st.text(max_size=60) | VALUES.map("try again in {}s".format)
)
def test_the_parser_is_total(headers, body, text):
    """Whatever is written, the result is None or a finite number of seconds in range."""
    wait = parse(headers, body, text, NOW)

    assert wait is None or 0 <= wait.seconds <= LONGEST_WAIT_S


def test_headers_that_speak_of_waiting_are_kept_as_they_came():
    """They are evidence for an operator; other headers are not kept."""
    headers = {"retry-after": "7", "x-ratelimit-reset": "x" * 200, "x-should-retry": "true", "set-cookie": "no"}

    assert delay_headers(headers) == {"retry-after": "7", "x-ratelimit-reset": "x" * 100, "x-should-retry": "true"}
