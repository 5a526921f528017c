"""Which part of the code may import which: the list, its picture, and what the code really imports.

A part is a sub-package, or a file that stands beside the sub-packages of its room. `python -m
tests.contract.import_rules` prints the picture of docs/architecture.md.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

from tests.support import ROOT

ROOMS: Final = ("durable_llm", "workflows", "activities", "workers")

ARROWS: Final[Mapping[str, set[str]]] = {
    "durable_llm._version": set(),
    "durable_llm.adapters": {"durable_llm.client"},
    "durable_llm.addresses": set(),
    "durable_llm.background": set(),
    "durable_llm.backoff": set(),
    "durable_llm.cli": {
        "durable_llm.background",
        "durable_llm.rooms",
        "workers.dev",
        "workers.front",
        "workers.recorded",
        "workers.sweep_store",
        "workers.worker",
    },
    "durable_llm.client": {"durable_llm.encryption", "durable_llm.store", "durable_llm.streams"},
    "durable_llm.contract": set(),
    "durable_llm.encryption": {"durable_llm.errors"},
    "durable_llm.errors": {"durable_llm.contract"},
    "durable_llm.plugin": {"durable_llm.rooms", "workers.plugin"},
    "durable_llm.rooms": set(),
    "durable_llm.store": {"durable_llm.backoff", "durable_llm.addresses", "durable_llm.errors"},
    "durable_llm.streams": {"durable_llm.addresses", "durable_llm.errors"},
    "durable_llm.sync": {"durable_llm.client"},
    "durable_llm.workflow": {"durable_llm.client"},
    "workflows.attempts": {"durable_llm.contract"},
    "workflows.batches": {"durable_llm.contract"},
    "workflows.budget": {"workflows.policy", "workflows.waking"},
    "workflows.details": {"durable_llm.contract"},
    "workflows.ledger": {"workflows.policy"},
    "workflows.decision_log": {"durable_llm.contract"},
    "workflows.hold": {"workflows.waking"},
    "workflows.waking": {"durable_llm.contract"},
    "workflows.control": {"workflows.decision_log", "workflows.ledger", "workflows.request"},
    "workflows.llm_call": {"workflows.attempts", "workflows.details", "workflows.waits"},
    "workflows.policy": {"durable_llm.contract"},
    "workflows.quota": {"workflows.policy"},
    "workflows.request": {"durable_llm.errors"},
    "workflows.waits": {"workflows.control"},
    "activities.answer": {"activities.wire"},
    "activities.batch": {"activities.quota"},
    "activities.quota": {"activities.answer", "durable_llm.backoff"},
    "activities.attempt": {
        "activities.batch",
        "activities.quota",
        "activities.embeddings",
        "activities.holds",
        "activities.observation",
        "activities.read_response",
        "activities.recent",
        "activities.send",
        "activities.validation",
    },
    "activities.embeddings": {"activities.read_response", "durable_llm.store"},
    "activities.failure": {"activities.answer"},
    "activities.faults": {"durable_llm.contract"},
    "activities.holds": {"activities.faults", "durable_llm.backoff"},
    "activities.litellm_openai": {"activities.litellm_setup"},
    "activities.litellm_setup": {"activities.faults"},
    "activities.observation": {"activities.wire"},
    "activities.pace": {"activities.request"},
    "activities.publishing": {"activities.secrets", "durable_llm.streams"},
    "activities.read_response": {"activities.failure", "activities.request"},
    "activities.recent": {"durable_llm.contract"},
    "activities.request": {"activities.litellm_openai", "activities.secrets"},
    "activities.secrets": {"activities.faults"},
    "activities.send": {"activities.failure", "activities.pace", "activities.publishing", "activities.temporal"},
    "activities.temporal": {"activities.faults", "durable_llm.store"},
    "activities.validation": {"activities.answer", "activities.request"},
    "activities.wire": {"activities.litellm_setup", "activities.secrets"},
    "workers.__main__": {"durable_llm.cli"},
    "workers.codec": {"workers.http", "workers.logs"},
    "workers.dev": {"workers.codec"},
    "workers.front": {"durable_llm.client", "workers.http", "workers.logs"},
    "workers.health": set(),
    "workers.holds": {"durable_llm.background", "durable_llm.client"},
    "workers.http": {"workers.settings"},
    "workers.logs": {"workers.settings"},
    "workers.nexus": {"durable_llm.client"},
    "workers.plugin": {
        "workers.holds",
        "workers.nexus",
        "workers.quotas",
        "workers.settings",
        "workers.telemetry",
    },
    "workers.quotas": {"durable_llm.contract"},
    "workers.recorded": {"durable_llm.client", "workers.rooms"},
    "workers.rooms": {
        "activities.attempt",
        "workflows.batches",
        "workflows.budget",
        "workflows.hold",
        "workflows.llm_call",
        "workflows.quota",
    },
    "workers.settings": {"durable_llm.encryption", "durable_llm.store", "durable_llm.streams"},
    "workers.sweep_store": {"workers.settings"},
    "workers.telemetry": {"durable_llm.client", "workers.rooms"},
    "workers.unfinished": {"durable_llm.client"},
    "workers.versioning": {"workers.settings"},
    "workers.watchdog": set(),
    "workers.worker": {
        "workers.health",
        "workers.http",
        "workers.logs",
        "workers.plugin",
        "workers.unfinished",
        "workers.versioning",
        "workers.watchdog",
    },
}
"""From each part, where it may import from: a part may import whatever its arrows lead to, near or far."""


def sources(package: str) -> list[Path]:
    """All Python files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    """A file's module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    """Whether `name` is a module or a package of this repository."""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file.

    `from package import name` names a module of the package where there is one, else the package itself. A module
    named to `durable_llm.rooms.room` is imported too.
    """
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "room":
            yield ast.literal_eval(node.args[0])


@cache
def module_graph() -> dict[str, set[str]]:
    """For each module of ours, the modules of ours that it imports."""
    modules = {module_of(path): path for room in ROOMS for path in sources(room)}
    return {
        name: {found for found in imported_modules(path) if found in modules and found != name}
        for name, path in modules.items()
    }


def part_of(module: str) -> str:
    """The part that a module belongs to."""
    return ".".join(module.split(".")[:2])


@cache
def part_graph() -> dict[str, set[str]]:
    """For each part, the parts that it imports. A package's `__init__` that only hands names on is no part."""
    graph: dict[str, set[str]] = {}
    for module, imported in module_graph().items():
        if module in ROOMS:
            continue
        own = part_of(module)
        graph.setdefault(own, set()).update(part_of(other) for other in imported if other not in ROOMS)
    return {part: others - {part} for part, others in graph.items()}


def reachable(part: str) -> set[str]:
    """Every part that the arrows of `part` lead to."""
    return {far for near in ARROWS[part] for far in (near, *reachable(near))}


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """A cycle of the graph, [] where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def picture() -> str:
    """The allowed arrows as a Mermaid flowchart, a box for each room; an arrow points to what is imported."""
    lines = ["```mermaid", "flowchart TD"]
    for room in reversed(ROOMS):
        parts = [part for part in ARROWS if part.startswith(f"{room}.")]
        lines += [f"  subgraph {room}", *(f'    {part}["{part.partition(".")[2]}"]' for part in parts), "  end"]
    for part, others in ARROWS.items():
        lines += [f"  {part} --> {other}" for other in sorted(others) if other.split(".")[0] == part.split(".")[0]]
    between = {(a.split(".")[0], b.split(".")[0]) for a, others in ARROWS.items() for b in others}
    lines += [f"  {a} ==> {b}" for a, b in sorted(between) if a != b]
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    print(picture())
