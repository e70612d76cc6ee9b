"""``certd demo``: the whole life of a certificate, on real parts, in under a minute."""

from __future__ import annotations

import click

from certd.cli.options import command as certd_command


@certd_command("demo")
@click.option("--keep", is_flag=True, help="Keep the temporary folder, to look around in it.")
def command(context: click.Context, keep: bool) -> int:
    """Show certd at work: issue, deploy, serve, renew, against a CA on this machine.

    Starts Pebble (a small ACME CA for tests), a web server and the real daemon in a
    temporary folder, on free ports, without root. Needs no configuration, changes nothing
    else, and ends by itself.
    """
    from certd.testing.demo import Demo

    return Demo(keep=keep).run()
