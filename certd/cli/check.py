"""``certd check``: is the configuration right?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import click

from certd import config, standing
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, count, say
from certd.errors import StoreError


@certd_command("check")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
def command(context: click.Context, schema: bool) -> int:
    """Validate the configuration: every mistake at once, each with its line.

    That what it names is there on this machine (users, programs, folders) is a part of it, and
    so is whether a public CA certifies such names at all.
    Nothing is asked of any CA and nothing is written.
    """
    if schema:
        click.echo(json.dumps(config.schema(), indent=2))
        return 0
    found = config.load(config_path(context))
    refused = config.refused_names(found, found.certificates)
    if found.lacking or refused:
        raise config.BadConfig([*found.lacking, *refused])
    names = sum(len(spec.identifiers) for spec in found.certificates.values())
    say(
        f"{found.path}: good: {count(len(found.certificates), 'certificate')} for "
        f"{count(names, 'name')}, {count(len(found.targets), 'target')}"
    )
    for warning in found.warnings:
        say(f"warning: {warning}")
    for text in _roots(found):
        say(f"warning: {text}")
    for ca in found.unaccepted:
        say(
            f"{found.path}: [ca.{ca}] agree_tos: the terms of service are not accepted: no account "
            "is made there before; read them, then write agree_tos = true"
        )
    for ca in found.unbound:
        say(
            f"{found.path}: [ca.{ca}] eab: missing: it makes accounts for its customers only; "
            'write eab = { kid = "…", hmac = { file = "…" } } with what it gives you'
        )
    return 0


def _roots(found: config.Config) -> Iterator[str]:
    """Those of certd's own CAs that end, as far as whoever asks may read the database."""
    from certd.store.glance import roots

    with suppress(StoreError):
        now = datetime.now(UTC)
        there = roots(found.state) if found.own_cas else {}
        yield from (
            text
            for ca in found.own_cas
            if (at := there.get(ca)) and (text := standing.root_ending(ca, at, now))
        )
