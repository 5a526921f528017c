"""The codec server's pages for a browser: the login form, and the next steps in the Temporal UI."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

LOGIN_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""No script, no frame, nothing from another host."""

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>durable-llm codec server</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }}
  input, button {{ font: inherit; padding: .4rem .6rem }}
  code {{ background: #eee; padding: .1rem .3rem }}
</style>
<h1>durable-llm codec server</h1>
{content}
</html>
"""

_FORM: Final = """<p>{message}</p>
<form method="post" action="/login">
  <input name="token" type="password" autocomplete="current-password" aria-label="Token" autofocus required>
  <button>Log in</button>
</form>
"""

_DONE: Final = """<p><strong>This browser is logged in.</strong> Temporal's UI shows plain text once it sends the
  session along:</p>
<ol>
  <li>Open {uis}.</li>
  <li>Click the glasses at the top right (<em>Configure Codec Server</em>).</li>
  <li>Choose <em>Use my browser setting</em>, write <code>{address}</code>, switch
    <em>Include cross-origin credentials</em> on and apply.</li>
</ol>
<p>If the UI's operator has set both, only the first step is needed.</p>
<form method="post" action="/logout"><button>Log out</button></form>
"""


def login_page(message: str = "Type the token to read encrypted payloads in Temporal's UI.") -> str:
    """The login form."""
    return _PAGE.format(content=_FORM.format(message=escape(message)))


def logged_in_page(address: str, origins: Sequence[str]) -> str:
    """The next steps in the UI.

    Args:
        address: The codec server's address for the browser.
        origins: Addresses of the UIs.
    """
    uis = " or ".join(f'<a href="{escape(origin)}">{escape(origin)}</a>' for origin in origins)
    return _PAGE.format(content=_DONE.format(uis=uis, address=escape(address.rstrip("/"))))
