"""The project's own rules as tests: imports, exports, and what every test and every message must be."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from pydantic import BaseModel

import durable_llm
from durable_llm.contract.wire import Strict, Wire
from tests.support import ROOT

PACKAGES = ("durable_llm", "workflows", "activities", "workers")
MAY_IMPORT = {
    "durable_llm": set(),
    "workflows": {"durable_llm"},
    "activities": {"durable_llm"},
    "workers": {"durable_llm", "workflows", "activities"},
}


def imports(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def sources(package: str) -> list[Path]:
    """All Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    """Workers -> workflows, activities -> durable_llm; workflows and activities never import each other."""
    for path in sources(package):
        ours = {name.partition(".")[0] for name in imports(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[package] | {package}, f"{path.relative_to(ROOT)} imports {ours}"


LAYERS = ("contract", "backoff", "errors", "encryption", "store", "client", "cli")
"""Packages of `durable_llm`, each importing only what is left of it."""


def arrows(room: str) -> dict[str, set[str]]:
    """For each package of a room, and each module outside of a package, the others that it imports."""
    found: dict[str, set[str]] = {}
    for path in sources(room):
        here = path.relative_to(ROOT).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = here[: -node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            targets = [module] if len(module) > 1 else [(*module, alias.name) for alias in node.names]
            others = {target[1] for target in targets if target[0] == room and len(target) > 1} - {here[1]}
            found.setdefault(here[1], set()).update(others)
    return found


@pytest.mark.parametrize("room", ["durable_llm", "workflows"])
def test_no_packages_of_a_room_import_each_other_in_a_circle(room: str) -> None:
    """An import inside a function counts too."""
    graph = {package: others for package, others in arrows(room).items() if package != "__init__"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_packages_of_the_client_import_only_what_is_left_of_them() -> None:
    """The order is contract <- errors <- encryption, store <- client <- cli."""
    found = arrows("durable_llm")
    for index, package in enumerate(LAYERS):
        assert found.get(package, set()) & set(LAYERS) <= set(LAYERS[:index]), package


def test_only_the_activities_import_litellm() -> None:
    """Litellm takes seconds to import and reads the environment."""
    for package in PACKAGES:
        for path in sources(package):
            if "litellm" in {name.partition(".")[0] for name in imports(path)}:
                assert package == "activities", path


def test_the_policy_knows_no_temporal_no_clock_and_no_randomness() -> None:
    """Simulations and reports use the policy outside of Temporal."""
    for path in sources("workflows/policy"):
        forbidden = {"temporalio", "time", "datetime", "random", "asyncio", "os", "litellm"}
        assert not {name.partition(".")[0] for name in imports(path)} & forbidden, path


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
        if "cli" in module.name:
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
