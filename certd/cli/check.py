"""``certd check``: is the configuration right?"""

from __future__ import annotations

import json

import click

from certd import config
from certd.cli.options import command as certd_command
from certd.cli.options import config_path, say


@certd_command("check")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
def command(context: click.Context, schema: bool) -> int:
    """Validate the configuration: every mistake at once, each with its line.

    Nothing is asked of any CA and nothing is written.
    """
    if schema:
        click.echo(json.dumps(config.schema(), indent=2))
        return 0
    found = config.load(config_path(context))
    names = sum(len(spec.identifiers) for spec in found.certificates.values())
    say(
        f"{found.path}: good: {len(found.certificates)} certificates for {names} names, "
        f"{len(found.targets)} targets"
    )
    return 0
