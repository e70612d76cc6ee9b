"""``certd check``: is the configuration right?"""

from __future__ import annotations

import json

import click

from certd import config
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, count, say


@certd_command("check")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
def command(context: click.Context, schema: bool) -> int:
    """Validate the configuration: every mistake at once, each with its line.

    That what it names is there on this machine (users, programs, folders) is a part of it.
    Nothing is asked of any CA and nothing is written.
    """
    if schema:
        click.echo(json.dumps(config.schema(), indent=2))
        return 0
    found = config.load(config_path(context))
    if found.lacking:
        raise config.BadConfig(found.lacking)
    names = sum(len(spec.identifiers) for spec in found.certificates.values())
    say(
        f"{found.path}: good: {count(len(found.certificates), 'certificate')} for "
        f"{count(names, 'name')}, {count(len(found.targets), 'target')}"
    )
    for warning in found.warnings:
        say(f"warning: {warning}")
    for ca in found.unaccepted:
        say(
            f"{found.path}: [ca.{ca}] agree_tos: the terms of service are not accepted: no account "
            "is made there before; read them, then write agree_tos = true"
        )
    return 0
