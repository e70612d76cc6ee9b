"""What a command that works shows: what it is at, and what became of each certificate."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from certd.cli.options import say

if TYPE_CHECKING:
    from certd.engine.oneshot import Outcome


def tell(outcomes: Sequence[Outcome], *, quiet: bool) -> int:
    """Print them, or the failures only; returns the exit status."""
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    for outcome in failed if quiet else outcomes:
        mark = "FAILED " if outcome.kind == "failed" else ""
        say(f"{outcome.name}: {mark}{outcome.text}")
    if not outcomes and not quiet:
        say("no certificate is configured")
    return int(bool(failed))


class _Quiet:
    """Says nothing: on a pipe there is the result only."""

    def __call__(self, name: str, text: str) -> None:
        pass


class _Terminal:
    """A line for each step, under a line that moves while there is waiting."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.status = self.console.status("asking what is due")

    def __call__(self, name: str, text: str) -> None:
        self.console.print(f"[dim]{name}:[/dim] {text}")
        self.status.update(f"working on {name}")


@contextmanager
def shown() -> Iterator[_Quiet | _Terminal]:
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield _Quiet()
        return
    terminal = _Terminal()
    with terminal.status:
        yield terminal
