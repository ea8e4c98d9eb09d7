"""What a session on a device looks like on the terminal."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from .device_session import FAILED, PASSED, SKIPPED, Outcome, Session

__all__ = ["print_session"]

MESSAGE = 600
"""Characters of a message that are shown; the files have all."""


def print_session(console: Console, session: Session, link: dict) -> None:
    """A line for each group of checks, then what failed, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("checks", "passed", "failed", "skipped", "steps", "seconds", "why skipped"):
        table.add_column(name, justify="left" if name in ("checks", "why skipped") else "right")
    for group, outcomes in _groups(session.outcomes).items():
        table.add_row(*_row(group, outcomes))
    console.print(table)
    for outcome in session.outcomes:
        if outcome.result == FAILED:
            console.print(f"[red]failed[/] {outcome.check.name}: ", end="")
            console.print(_short(outcome.message), markup=False)
    if link:
        console.print("link: " + ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in link.items()))
    steps = sum(outcome.work.steps for outcome in session.outcomes)
    passed, skipped = session.count(PASSED), session.count(SKIPPED)
    if session.failed:
        console.print(f"[red]{session.failed} of {len(session.outcomes)} checks failed[/]")
    elif session.interrupted:
        console.print(f"interrupted: {passed} checks passed, the others did not run")
    else:
        console.print(
            f"[green]bit-exact[/]: {passed} checks passed, {skipped} skipped; {steps:,} steps of golden vectors"
        )


def _groups(outcomes: list[Outcome]) -> dict[str, list[Outcome]]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.check.group, []).append(outcome)
    return groups


def _row(group: str, outcomes: list[Outcome]) -> list[str]:
    results = Counter(outcome.result for outcome in outcomes)
    numbers = [str(results[result] or "-") for result in (PASSED, FAILED, SKIPPED)]
    steps = sum(outcome.work.steps for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    reasons = dict.fromkeys(outcome.message for outcome in outcomes if outcome.result == SKIPPED)
    return [group, *numbers, f"{steps:,}" if steps else "-", f"{seconds:.1f}", "; ".join(reasons)]


def _short(message: str) -> str:
    return message if len(message) <= MESSAGE else message[:MESSAGE] + " ..."
