"""The two base classes of every message.

What a user constructs is strict: an unknown field is a spelling mistake and an error. What was stored or sent by
another version is lenient: an unknown field is ignored, so that a stored result decodes for ever and a newer client's
request reaches the line of the workflow that refuses it by its schema version. Words of an enumeration are read
leniently too: a word from another version stays the text that it is. Neither shows values in its errors: they may be
keys or prompts.
"""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of what users construct: frozen, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


class Wire(BaseModel):
    """Base of what is stored in Temporal: frozen, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)
