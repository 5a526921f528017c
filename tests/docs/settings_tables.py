"""`python -m tests.docs.settings_tables`: write the tables of settings into their pages, from the declarations."""

import re
from typing import Final

from pydantic_settings import BaseSettings

from tests.support import ROOT
from workers.codec.settings import CODEC_PREFIX, CodecSettings
from workers.front.settings import FRONT_PREFIX, FrontSettings
from workers.settings import PREFIX, WorkerSettings

PAGES: Final[dict[str, tuple[type[BaseSettings], str]]] = {
    "settings.md": (WorkerSettings, PREFIX),
    "encryption.md": (CodecSettings, CODEC_PREFIX),
    "front.md": (FrontSettings, FRONT_PREFIX),
}
MARKED: Final = re.compile(r"(<!-- settings.*?-->\n)(.*?)(\n<!-- end of settings -->)", re.DOTALL)


def settings_table(settings: type[BaseSettings] = WorkerSettings, prefix: str = PREFIX) -> str:
    """A table of settings: name, default, and the declaration's sentence."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        shown = "" if field.default in ("", (), None) else f"`{default}`"
        rows.append(f"| `{prefix}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    for page, (settings, prefix) in PAGES.items():
        path = ROOT / "docs" / page
        table = settings_table(settings, prefix)
        path.write_text(MARKED.sub(lambda found, table=table: found[1] + table + found[3], path.read_text()))
