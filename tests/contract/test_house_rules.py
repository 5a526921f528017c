"""The project's own rules as tests: imports, exports, and what every test and every message must be."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import durable_llm
from durable_llm.contract.wire import Strict, Wire
from tests.support import ROOT

PACKAGES = ("durable_llm", "workflows", "activities", "workers")


def sources(package: str) -> list[Path]:
    """All Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def test_a_caller_never_loads_litellm_and_little_time() -> None:
    """`import durable_llm` loads no litellm and takes under 0.4 s of CPU over temporalio's own import."""
    program = (
        "import time, sys, json, temporalio.client, temporalio.contrib.pydantic, temporalio.envconfig;"
        "began = time.process_time(); import durable_llm; took = time.process_time() - began;"
        "print(json.dumps([took, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    took, modules = json.loads(done.stdout)
    assert not {"litellm", "openai", "workflows", "activities", "workers", "pydantic_settings"} & set(modules)
    assert took < 0.4


def test_everything_public_is_exported_once_and_in_order() -> None:
    """`__init__` is a table of contents."""
    exported = durable_llm.__all__
    assert exported == sorted(exported)
    assert all(hasattr(durable_llm, name) for name in exported)
    imported = {name for name, value in vars(durable_llm).items() if isinstance(value, type)}
    assert imported <= set(exported)


def test_every_message_is_frozen_and_strict_or_lenient_on_purpose() -> None:
    """A message is `Strict` (users construct it) or `Wire` (it is stored), never a bare model."""
    for module in pkgutil.walk_packages(durable_llm.__path__, "durable_llm."):
        if "cli" in module.name or ".adapters." in module.name:  # their libraries are installed elsewhere
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__.startswith("durable_llm"):
                assert issubclass(value, Strict | Wire), value
                assert value.model_config["frozen"], value


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_every_test_states_its_rule(path: Path) -> None:
    """The docstring says what must hold; the code only says what happens."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_constraints_hold_versions_and_no_addresses() -> None:
    """One exact version a line, so that an install is the same everywhere and names no host."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line), line


def test_each_suppressed_warning_names_its_rule_and_reason() -> None:
    """A suppression says which rule and why."""
    bare = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?!(?::\s*|\[)[\w, -]+\]?\s+#\s*\S)")
    for package in (*PACKAGES, "benchmarks", "examples"):
        for path in sources(package):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert not bare.search(line), f"{path.relative_to(ROOT)}:{number}"
