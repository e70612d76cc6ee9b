"""``certd``: the group of commands, and how every failure ends.

Exit status: 0 all well, 1 something failed, 2 usage or configuration. A command's module
is imported when it is called, and it imports what it needs when it runs: imports cost
more than most commands' work.
"""

from __future__ import annotations

import sys

try:
    import importlib
    import io
    import os
    from contextlib import suppress
    from typing import Any, TextIO

    import click

    from certd import __version__
    from certd.cli.options import CONTEXT, config_option, say
    from certd.errors import CertdError, ConfigError
except KeyboardInterrupt:  # these take most of a short command's time
    sys.exit(130)

PR_SET_DUMPABLE = 4  # prctl(2)

# In the order in which a newcomer meets them.
COMMANDS = (
    "demo",
    "check",
    "plan",
    "renew",
    "pull",
    "run",
    "status",
    "show",
    "verify",
    "export",
    "revoke",
    "account",
    "ca",
    "plugins",
    "dns",
    "db",
    "seal",
)


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


class _Output(io.FileIO):
    """Standard output; that it cannot be written is told in words, once."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # What is still in the buffers goes nowhere, also when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise CertdError("cannot write the output", error.strerror or str(error)) from None


def _output() -> TextIO:
    had: TextIO | None = sys.stdout
    if had is None:  # closed by the caller: what is written to this one fails
        return io.TextIOWrapper(_buffered(os.open(os.devnull, os.O_RDONLY)))
    return io.TextIOWrapper(
        _buffered(had.fileno()), had.encoding, had.errors, line_buffering=had.isatty()
    )


def _buffered(fd: int) -> io.BufferedWriter:
    return io.BufferedWriter(_Output(fd, "w", closefd=False))


def _no_core_dump() -> None:
    """What dies takes its private keys with it, whatever the system wants to keep (core(5)).

    PR_SET_DUMPABLE holds where a program is to get the dump, which no limit keeps from it, and
    ends with an exec. The hard limit stays, for the programs that certd starts inherit it.
    """
    import ctypes
    import resource

    with suppress(OSError, ValueError, AttributeError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """The entry point: turns what was raised into words on stderr and an exit status."""
    _no_core_dump()
    sys.stdout = _output()
    try:
        status = group.main(standalone_mode=False, prog_name="certd") or 0
        sys.stdout.flush()
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        error.show()
        status = 2
    except ConfigError as error:
        say(str(error), err=True)
        status = 2
    except CertdError as error:
        say(f"certd: {error}", err=True)
        status = 1
    except BrokenPipeError:
        status = 1  # the reader of our output has left: nothing to complain of
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
