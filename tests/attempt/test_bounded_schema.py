"""A schema and a value together cannot keep a worker busy: every check ends, and others run meanwhile."""

import asyncio
import time
from contextlib import suppress

import pytest

from activities.validation.schema import CHECK_TIMEOUT_S, AnswerSchema
from durable_llm.contract.validation import Rejected


def nested(depth: int) -> dict:
    """A schema that is evaluated 2 ^ depth times."""
    schema: dict = {"const": 1}
    definitions = {"d0": schema}
    for level in range(1, depth):
        definitions[f"d{level}"] = {"allOf": [{"$ref": f"#/$defs/d{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/d{depth - 1}"}


ENDLESS = "a" * 60 + "!"
HOSTILE = [
    ({"patternProperties": {"^(a+)+$": {"type": "null"}}}, {ENDLESS: 1}),
    ({"patternProperties": {"^(a|a?)+$": {}}, "additionalProperties": False}, {ENDLESS: 1}),
    ({"properties": {"a": {"pattern": "^(a|a?)+$"}}}, {"a": ENDLESS}),
    (nested(40), 1),
    ({"uniqueItems": True}, [[number] for number in range(20_000)]),
]


@pytest.mark.parametrize(("schema", "value"), HOSTILE, ids=["names", "additional", "pattern", "allOf", "unique"])
async def test_a_check_ends_and_the_loop_goes_on(schema: dict, value: object) -> None:
    """Within the limit, whatever is asked of it, and the event loop turns all the while."""
    longest, turning = 0.0, True

    async def turn() -> None:
        nonlocal longest
        while turning:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    loop = asyncio.create_task(turn())
    began = time.monotonic()
    with suppress(Rejected):
        await asyncio.to_thread(AnswerSchema(schema).check, value)
    took = time.monotonic() - began
    turning = False
    await loop
    assert took < 3 * CHECK_TIMEOUT_S
    assert longest < CHECK_TIMEOUT_S


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": 1, "x": "y"}, {"n1": "one"}),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1}, {"b": 1}),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, {"a": "x", "b": 1}, {"b": "x"}),
        ({"patternProperties": {"^n": {}}, "additionalProperties": False}, {"n1": 1}, {"x": 1}),
        ({"uniqueItems": True}, [1, "1", [1], {"a": 1}], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
    ],
)
def test_the_keywords_mean_what_they_meant(schema: dict, good: object, bad: object) -> None:
    """The bounded ones decide as the specification says."""
    AnswerSchema(schema).check(good)
    with pytest.raises(Rejected):
        AnswerSchema(schema).check(bad)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"patternProperties": {"(": {}}}, "pattern"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "use one of them"),
    ],
)
def test_a_schema_that_cannot_be_bounded_is_refused(schema: dict, says: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=says):
        AnswerSchema(schema)
