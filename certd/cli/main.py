"""``certd``: the group of commands, and how every failure ends.

Exit status: 0 all well, 1 something failed, 2 usage or configuration. A command's module
is imported when it is called, and it imports what it needs when it runs: imports cost
more than most commands' work.
"""

from __future__ import annotations

import importlib
import sys

import click

from certd import __version__
from certd.cli.options import CONTEXT, config_option
from certd.errors import CertdError, ConfigError

# In the order in which a newcomer meets them.
COMMANDS = ("demo", "check", "plan", "renew", "run", "status", "show")


class Commands(click.Group):
    """One file a command, in this folder."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"certd.cli.{name}").command
        return command if isinstance(command, click.Command) else None


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="certd", message="%(prog)s %(version)s")
@config_option
def group() -> None:
    """Gets TLS certificates from an ACME CA, deploys them, and keeps them renewed.

    A certificate is done when every target serves it.
    """


def main() -> None:
    """The entry point: turns what was raised into words on stderr and an exit status."""
    try:
        sys.exit(group.main(standalone_mode=False, prog_name="certd") or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except CertdError as error:
        click.echo(f"certd: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing to complain of
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
