"""References to API keys, and what a literal key looks like.

A caller writes where a key is, never the key: what a caller writes is stored in Temporal's history for everyone with
access to read. Only a worker resolves a reference, under the operator's rules.
"""

import re
from typing import Final, NamedTuple

ENVIRONMENT: Final = "os.environ/"
"""Prefix of a reference to a variable of the worker's environment (litellm's spelling)."""

SECRET_FILE: Final = "secrets/"  # noqa: S105  # a prefix, not a secret
"""Prefix of a reference to a file in the worker's secrets directory (Docker's and Kubernetes' secrets)."""

HOW_TO_WRITE: Final = (
    f"write a reference that the worker resolves: '{ENVIRONMENT}OPENAI_API_KEY' for a variable of the worker's "
    f"environment, or '{SECRET_FILE}openai_api_key' for a file in its secrets directory"
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

# Shapes that issuers document or that secret scanners agree on. A digit is demanded where a prefix is also a word, so
# that `os.environ/...`, prose and identifiers match none of them; it is looked for so far and no further, since a text
# of nothing but prefixes would hold up whoever reads it.
_LITERAL_KEY = re.compile(
    r"""
      \bsk[-_](?=[A-Za-z0-9_\-]{0,99}[0-9*])[A-Za-z0-9_\-*]{12,}     # OpenAI, Anthropic and many others
    | \bsk-[A-Za-z0-9]{20,}
    | \b(?:gsk_|xai-|pplx-|nvapi-|hf_|r8_|fw_|csk-|tgp_v1_)(?=[A-Za-z0-9_\-]{0,99}[0-9])[A-Za-z0-9_\-]{20,}
    | \b[pr]k_(?:live|test)_[A-Za-z0-9]{12,}                           # Stripe
    | \bkey-[0-9a-f]{32}                                               # Mailgun
    | \bAIza[A-Za-z0-9_\-]{20,}                                        # Google
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}                                     # AWS access key id
    | \bya29\.[A-Za-z0-9_\-.]{16,}                                     # Google OAuth access token
    | \beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?  # JSON Web Token
    | \bgh[pousr]_[A-Za-z0-9]{16,}                                     # GitHub
    | -----BEGIN[ A-Z]*PRIVATE\ KEY-----(?:[^-]*-----END[ A-Z]*PRIVATE\ KEY-----)?
    """,
    re.VERBOSE,
)


class KeyReference(NamedTuple):
    """A parsed reference: where to look (`ENVIRONMENT` or `SECRET_FILE`) and under which name."""

    source: str
    name: str


def parse(reference: str) -> KeyReference:
    """Parse what a caller wrote as `api_key`.

    Raises:
        ValueError: it is not a reference; the text says what to write and does not repeat what was written, since that
            is most likely a key.
    """
    for source in (ENVIRONMENT, SECRET_FILE):
        name = reference.removeprefix(source)
        if name != reference and _NAME.fullmatch(name):
            return KeyReference(source, name)
    raise ValueError(f"api_key holds a literal value, which would be stored in Temporal's history; {HOW_TO_WRITE}")


def find_literal_key(text: str) -> bool:
    """Whether `text` holds something recognisable as a key."""
    return _LITERAL_KEY.search(text) is not None


def redact_literal_keys(text: str, mark: str = "[key]") -> str:
    """`text` with everything recognisable as a key replaced by `mark`."""
    return _LITERAL_KEY.sub(mark, text)
