"""One reading of every provider's way to say what failed."""

import json

import pytest

from activities.wire.error_body import holds_error, read_error

ROWS = [
    (  # OpenAI
        {
            "error": {
                "message": "Limit 30000, Requested 30601.",
                "type": "tokens",
                "param": None,
                "code": "rate_limit_exceeded",
            }
        },
        (
            "rate_limit_exceeded",
            "tokens",
            None,
            "Limit 30000, Requested 30601.",
            ["limit=30000", "requested=30601"],
            None,
        ),
    ),
    (  # Azure: the code repeats the status
        {"error": {"code": "429", "message": "Please retry after 7 seconds."}},
        (None, None, None, "Please retry after 7 seconds.", [], 429),
    ),
    (  # Azure's filter
        {
            "error": {
                "message": "filtered",
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        ("content_filter", None, "prompt", "filtered", ["innererror=ResponsibleAIPolicyViolation"], 400),
    ),
    (  # Anthropic
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"},
        (None, "overloaded_error", None, "Overloaded", [], None),
    ),
    (  # Gemini, Vertex
        [
            {
                "error": {
                    "code": 429,
                    "message": "Quota exceeded for metric: m, limit: 0",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                            "violations": [
                                {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "0"}
                            ],
                        },
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
                    ],
                }
            }
        ],
        (
            "RESOURCE_EXHAUSTED",
            None,
            None,
            "Quota exceeded for metric: m, limit: 0",
            ["quotaId=GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue=0", "retryDelay=34s", "limit=0"],
            429,
        ),
    ),
    (  # Mistral
        {
            "object": "error",
            "message": "Service tier capacity exceeded",
            "type": "service_tier_capacity_exceeded",
            "code": "3505",
        },
        ("3505", "service_tier_capacity_exceeded", None, "Service tier capacity exceeded", [], None),
    ),
    (  # OpenRouter
        {
            "error": {
                "message": "Provider returned error",
                "code": 502,
                "metadata": {"provider_name": "Nvidia", "raw": "limit reached"},
            }
        },
        (None, None, None, "Provider returned error", ["provider_name=Nvidia", "raw=limit reached"], 502),
    ),
    (  # vLLM
        {"object": "error", "message": "maximum context length", "type": "BadRequestError", "param": None, "code": 400},
        (None, "BadRequestError", None, "maximum context length", [], 400),
    ),
    ({"detail": "Not authenticated"}, (None, None, None, "Not authenticated", [], None)),
    (
        {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]},
        (None, "missing", None, "field required", [], None),
    ),
    ({"error": "model 'x' not found"}, (None, None, None, "model 'x' not found", [], None)),
    (
        {"message": "Too many tokens", "__type": "ThrottlingException"},
        (None, "ThrottlingException", None, "Too many tokens", [], None),
    ),
]


@pytest.mark.parametrize(("body", "expected"), ROWS)
def test_error_bodies_are_read_by_their_shape(body, expected):
    """Code, type, parameter, message, details and the status that the body names."""
    error = read_error({}, json.dumps(body).encode())

    assert (error.code, error.type, error.param, error.message, error.details, error.status) == expected
    assert error.found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"upstream connect error", "upstream connect error"),
        (b"<html><head><title>504 Gateway Time-out</title></head><body>x</body></html>", "504 Gateway Time-out"),
        (b"<p>Bad &amp; <b>broken</b></p>", "Bad & broken"),
        (b"", ""),
        (b'{"error": {"mess', '{"error": {"mess'),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_other_bodies_are_text(body, message):
    """A page's title, else the text as it came; nothing raises."""
    error = read_error({}, body)

    assert (error.message, error.code, error.found) == (message, None, False)


def test_amazon_names_the_error_in_a_header():
    """Bedrock's code is in x-amzn-errortype, with an address after it."""
    error = read_error({"x-amzn-errortype": "ThrottlingException:http://x/"}, b'{"message": "Too many requests"}')

    assert (error.code, error.message) == ("ThrottlingException", "Too many requests")


@pytest.mark.parametrize(
    "value", [None, 1, "text", [], {}, [1], {"error": None}, {"error": {}}, {"choices": []}, {"error": ""}]
)
def test_what_is_no_error_is_not_read_as_one(value):
    """An answer with an empty error field is an answer."""
    assert not holds_error(value)
    read_error({}, json.dumps(value).encode())


def test_sums_are_no_limits():
    """In "199759 + 8192 > 200000" no number is a limit by itself."""
    error = read_error({}, b'{"error": {"message": "exceed context limit: 199759 + 8192 > 200000"}}')

    assert error.details == []
