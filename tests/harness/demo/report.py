"""The table at the end: each attempt of each call."""

from urllib.parse import quote

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from durable_llm import Action, Attempt, Dispatcher, Outcome
from tests.harness.demo import script
from tests.harness.demo.progress import cost


def show_script(console: Console) -> None:
    """Say what is going to happen to each step."""
    console.print("An agent job makes ten calls. What will happen to them:")
    for step in script.STEPS:
        console.print(f"  step-{step.number:<3} {step.story}", style="dim")


async def show_calls(dispatcher: Dispatcher, run: str, console: Console) -> None:
    """Print a line for each attempt of each call, and what all of them cost."""
    table = Table("call", "model", "result", "decision", "cost", box=SIMPLE_HEAD)
    known, complete = 0.0, True
    for step in script.STEPS:
        result = await dispatcher.attach(script.call_id(run, step.number)).result()
        known, complete = known + result.total_cost, complete and result.cost_complete
        for entry in result.attempts:
            first = f"step-{step.number}" if entry is result.attempts[0] else ""
            table.add_row(first, entry.model, _ending(entry), _following(entry), cost(entry.cost))
        table.add_section()
    console.print(table)
    unknown = "" if complete else ", and what the requests cost that were lost with the worker"
    console.print(f"All calls together cost ${known:.6f}{unknown}.")


def _ending(entry: Attempt) -> str:
    if entry.outcome == Outcome.ANSWERED:
        return "[green]answer[/green]"
    return f"{entry.http_status} {entry.category}" if entry.http_status else str(entry.category)


def _following(entry: Attempt) -> str:
    if entry.decision == Action.NEXT:
        return "next model"
    return f"again in {entry.delay_s:.1f} s" if entry.delay_s is not None else str(entry.decision or "")


def ui_link(ui_url: str, run: str) -> str:
    """The UI's list of the run's calls."""
    query = quote(f'LLMSession="demo-{run}"')
    return f"{ui_url}/namespaces/default/workflows?query={query}"
