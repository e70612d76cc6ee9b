"""What the commands have in common."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from certd.due import NEVER

CONTEXT = {"help_option_names": ["-h", "--help"]}
DEFAULT = "/etc/certd/certd.toml"


def _remember(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(dict)["config"] = value


# Before the command and after it: people type both.
config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, readable=False),  # who reads it says why it cannot be
    callback=_remember,
    expose_value=False,
    is_eager=True,
    help=f"The configuration file, else $CERTD_CONFIG, else {DEFAULT}.",
)


def config_path(context: click.Context) -> Path:
    # The variable is not the option's own: given before the command, -c would lose to it.
    named = context.ensure_object(dict).get("config") or os.environ.get("CERTD_CONFIG")
    return Path(named or DEFAULT)


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that takes ``-c`` and gets its context."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        made: click.Command = config_option(
            click.command(name, context_settings=CONTEXT)(click.pass_context(function))
        )
        return made

    return decorate


def log_to_stderr(level: int) -> None:
    """One line an event; under systemd with its priority and without the time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger("certd")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
    logging.getLogger("apscheduler").addHandler(handler)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _Line(logging.Formatter):
    """``2026-01-31T12:00:00Z warning text``, or ``<4>text`` for the journal (sd-daemon(3))."""

    def __init__(self) -> None:
        super().__init__()
        self._journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if self._journal:
            priority = PRIORITIES.get(record.levelname, 6)
            return "\n".join(f"<{priority}>{line}" for line in text.splitlines())
        when = datetime.fromtimestamp(record.created, UTC)
        return f"{when:%Y-%m-%dT%H:%M:%SZ} {record.levelname.lower()} {text}"


def count(number: int, what: str) -> str:
    """``1 certificate``, ``2 certificates``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def say(text: str, *, err: bool = False) -> None:
    """Print for people: on a terminal, lines too long for it go on at a word, indented."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(_wrapped(line, width) for line in text.split("\n"))
    click.echo(text, err=err)


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(
        line,
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def instant(at: datetime | None) -> str:
    return "–" if at is None or at >= NEVER else f"{at:%Y-%m-%d %H:%M}Z"


def ahead(at: datetime, now: datetime) -> str:
    """``in 12 d``, ``in 5 h``, ``now``: how far away an instant is; ``stopped`` for none."""
    if at >= NEVER:
        return "stopped"
    left = at - now
    if left <= timedelta(0):
        return "now"
    seconds = left.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"in {seconds / size:.0f} {unit}"
    return f"in {seconds:.0f} s"
