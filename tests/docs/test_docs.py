"""The documents say what the code does: settings, examples, names."""

import ast
import re

from pydantic_settings import BaseSettings

import durable_llm
from durable_llm.errors import DurableLLMError
from tests.docs.policy_page import policy_page
from tests.support import ROOT
from workers.settings import PREFIX, WorkerSettings

README = (ROOT / "README.md").read_text()


def settings_table(settings: type[BaseSettings] = WorkerSettings, prefix: str = PREFIX) -> str:
    """A table of settings, from the declaration."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        default = (
            ""
            if field.default in ("", ())
            else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        )
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_readmes_settings_are_the_declared_ones() -> None:
    """Name, default and sentence of each setting, in the order of the declaration."""
    shown = re.search(r"<!-- settings.*?-->\n(.*?)\n<!-- end", README, re.DOTALL)
    assert shown
    assert shown[1] == settings_table()


def test_the_readmes_examples_are_python_and_use_what_is_exported() -> None:
    """Every Python block parses, and every name that it imports from us exists."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "durable_llm":
                assert {alias.name for alias in node.names} <= set(durable_llm.__all__)


def test_the_readme_names_every_error() -> None:
    """A caller can look up all that may be raised."""
    for name in durable_llm.__all__:
        value = getattr(durable_llm, name)
        if isinstance(value, type) and issubclass(value, DurableLLMError) and value is not DurableLLMError:
            assert f"`{name}`" in README


def test_the_policy_page_is_the_policy() -> None:
    """`python -m tests.docs.policy_page > docs/policy.md` has been run since the last change of a rule."""
    assert (ROOT / "docs" / "policy.md").read_text() == policy_page()


def test_links_between_documents_lead_somewhere() -> None:
    """No document points at a file that does not exist."""
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
