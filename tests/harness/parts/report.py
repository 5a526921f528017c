"""A verdict's rules in a terminal."""

from rich.console import Console

from tests.harness.parts.rules import Verdict

_FOUND_LINES = 12


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print the checker's rules and whether they held."""
    console.print(f"The checker counted {verdict.requests} requests for {verdict.calls} calls:")
    for rule in verdict.rules:
        mark = "[green]held  [/green]" if rule.held else "[red]BROKEN[/red]"
        console.print(f"  {mark} {rule.rule}")
        for found in rule.found[:_FOUND_LINES]:
            console.print(f"           {found}", style="dim", markup=False)
        if more := len(rule.found[_FOUND_LINES:]):
            console.print(f"           and {more} more", style="dim")
