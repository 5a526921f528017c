"""The two base classes of every message.

What a user constructs is strict: an unknown field is a spelling mistake and an error. What another version stored or
sent is lenient: unknown fields are ignored. So a stored result always decodes, and a newer client's request reaches the
line of the workflow that refuses it by its schema version. Fields with words of an enumeration take unknown words too,
as plain text. Neither class shows values in its errors: they may be keys or prompts.
"""

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Base of what users construct: frozen, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Wire(BaseModel):
    """Base of what is stored in Temporal: frozen, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


def describe_validation_error(error: ValidationError) -> str:
    """A validation error on one line: places and reasons, never the values, which may be keys."""
    return "; ".join(
        ".".join(str(part) for part in detail["loc"]) + f": {detail['msg'].removeprefix('Value error, ')}"
        if detail["loc"]
        else detail["msg"].removeprefix("Value error, ")
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    )
