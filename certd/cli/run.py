"""``certd run``: the daemon."""

from __future__ import annotations

import logging

import click

from certd.cli.options import command as certd_command
from certd.cli.options import config_path, log_to_stderr


@certd_command("run")
@click.option("--debug", is_flag=True, help="Log more; never a key or a token.")
def command(context: click.Context, debug: bool) -> int:
    """Run the daemon in the foreground: watch, renew, deploy, until SIGTERM.

    SIGHUP rereads the configuration and asks the CAs for their renewal windows afresh; a
    wrong configuration is reported and the old one stays.
    """
    log_to_stderr(logging.DEBUG if debug else logging.INFO)
    from certd.daemon import Daemon

    return Daemon(config_path(context)).run()
