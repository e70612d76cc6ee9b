"""``certd status``: every certificate, its state, and what comes next."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime

import click

from certd.cli.options import ahead, config_path, count, say
from certd.cli.options import command as certd_command
from certd.cli.overview import Overview, overview
from certd.cli.troubles import troubles
from certd.errors import plain
from certd.standing import Entry, left_document, stuck_document

FORMAT = 1  # of the JSON: bumped when a key changes its meaning or goes
MOST_OTHERS = 20  # of a target, in the text
TABLE_ROWS = 200  # rich needs more than a second for 10,000
COLUMNS = ("NAME", "NAMES", "STATE", "EXPIRES", "RENEWS", "CA", "TARGETS")
COLOURS = {"ok": "green", "expired": "bold red", "revoked": "bold red", "failing": "red"}


@certd_command("status")
@click.option("--json", "as_json", is_flag=True, help="Stable JSON, for programs.")
def command(context: click.Context, as_json: bool) -> int:
    """Show every certificate: state, expiry, renewal and why, CA, targets, what failed.

    Exit status 1 when a certificate has expired or is revoked, or something is failing.
    """
    found = overview(config_path(context))
    states = {entry.state for entry in found.entries}
    if as_json:
        # A line for each certificate: to be read, searched, and made in no time.
        encode = json.JSONEncoder(check_circular=False).encode  # one for all, and they are trees
        lines = ",\n".join(encode(entry.document()) for entry in found.entries)
        head = f'"format": {FORMAT}, "daemon": {json.dumps(bool(found.daemon))}'
        if found.left:
            head += f', "revocations": {encode([left_document(one) for one in found.left])}'
        if found.others:
            head += f', "managed": {encode(_managed(found))}'
        if found.stuck:
            head += f', "dns_records": {encode([stuck_document(one) for one in found.stuck])}'
        click.echo(f'{{{head}, "certificates": [\n{lines}\n]}}')
    else:
        table(COLUMNS, [_row(entry, found.now) for entry in found.entries], 2, COLOURS)
        for text in troubles(found):
            say(text)
        for text in found.roots:
            say(f"\nwarning: {text}")
        for one in found.stuck:
            again = f"next attempt {ahead(one.retry_at, found.now)}" if one.retry_at else ""
            say(f"\nwarning: {one.name} is still in its zone: {one.failure}\n  {again}")
        for text in _others(found):
            say(text)
        daemon = f"running, {found.daemon}" if found.daemon else "not running"
        say(f"{count(len(found.entries), 'certificate')}; daemon {daemon}")
    failing = any(one.failure for one in found.left)
    return int(failing or not states.isdisjoint(("expired", "revoked", "failing")))


def _managed(found: Overview) -> list[dict[str, object]]:
    return [
        {
            "target": target,
            "id": one.id,
            "names": one.names,
            "not_after": one.not_after and f"{one.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "status": one.status,
        }
        for target, there in found.others.items()
        for one in there
    ]


def _others(found: Overview) -> Iterator[str]:
    """Certificates that a target's service renews by itself."""
    for target, there in found.others.items():
        for one in there[:MOST_OTHERS]:
            ends = f", expires {one.not_after:%F}" if one.not_after else ""
            names, status, known = plain(", ".join(one.names)), plain(one.status), plain(one.id)
            yield f"\nat {target}, not certd's: {names}: {status}{ends} ({known})"
        if len(there) > MOST_OTHERS:
            yield f"at {target}, not certd's: {len(there) - MOST_OTHERS} more"


def _row(entry: Entry, now: datetime) -> tuple[str, ...]:
    spec, lineage, plan = entry.spec, entry.lineage, entry.plan
    expiry = lineage.current.certificate.not_after if lineage.current else None
    shown = ", ".join(f"{item.target} {item.phase}" for item in entry.targets())
    more = len(spec.identifiers) - 1
    return (
        spec.name,
        f"{spec.identifiers[0]} +{more}" if more else f"{spec.identifiers[0]}",
        entry.state,
        f"{expiry.date()}, {ahead(expiry, now)}" if expiry else "–",
        f"{ahead(plan.issue.at, now)}: {plan.issue.reason}",
        lineage.current.ca if lineage.current else spec.cas[0],
        shown or "–",
    )


def table(
    columns: tuple[str, ...], cells: list[tuple[str, ...]], telling: int, colours: Mapping[str, str]
) -> None:
    """Print it; on a terminal with the colour of what is in the column that is ``telling``."""
    terminal = sys.stdout.isatty()
    if terminal and len(cells) <= TABLE_ROWS:
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, header_style="bold", pad_edge=False)
        console = Console()
        words = [
            [[cell_len(word) for word in cell.split()] for cell in column]
            for column in zip(columns, *cells, strict=True)
        ]
        room = console.width - 2 * (len(columns) - 1)
        for column, width in zip(columns, _widths(words, room), strict=True):
            drawn.add_column(column, width=width, overflow="fold")
        for row in cells:
            style = colours.get(row[telling], "yellow")
            shown = [Text(cell, style if at == telling else "") for at, cell in enumerate(row)]
            drawn.add_row(*shown)
        console.print(drawn)
        return
    rows = [columns, *cells]
    widths = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    click.echo("\n".join(lines))


def _widths(columns: list[list[list[int]]], room: int) -> list[int]:
    """A width for each column, of cells of words, each given by its length.

    The widest are made narrower, but not than their longest word as long as others can be.
    """
    widths = [max(sum(cell) + len(cell) - 1 for cell in column) for column in columns]
    least = [max(max(cell, default=0) for cell in column) for column in columns]
    while sum(widths) > max(room, len(widths)):
        wrap = [at for at, width in enumerate(widths) if width > least[at]]
        widths[max(wrap or range(len(widths)), key=widths.__getitem__)] -= 1
    return widths
