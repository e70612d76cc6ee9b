"""A command on another machine, by SSH: run to its end, which is awaited for so long only."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from certd.api import TargetError, said

if TYPE_CHECKING:
    import asyncssh

_MOST_OUTPUT = 64 * 1024  # bytes kept of what the command writes, the last ones


async def run(
    connection: asyncssh.SSHClientConnection,
    argv: Sequence[str],
    variables: Mapping[str, str],
    seconds: float,
    what: str,
) -> None:
    """Run it; SSH knows no argv, so each word is quoted for the shell. ``what`` opens the error.

    Raises:
        TargetError: it failed, or took too long; then the connection is closed.
    """
    import asyncssh

    words = ["env", *(f"{key}={value}" for key, value in variables.items()), *argv]
    written = b""
    async with connection.create_process(
        shlex.join(words), stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding=None
    ) as process:
        try:
            async with asyncio.timeout(seconds):
                while chunk := await process.stdout.read(_MOST_OUTPUT):
                    written = (written + chunk)[-_MOST_OUTPUT:]
                await process.wait_closed()
        except TimeoutError:
            process.kill()
            # Not the channel alone, whose end is waited for: OpenSSH passes no signal to
            # a forced command, nor to what sudo has made root's, and that may run for ever.
            connection.close()
            why = f"{argv[0]} did not end within {seconds:g} s{said(written)}"
            raise TargetError(what, why, "see why it hangs, or raise reload_timeout") from None
    if process.exit_status != 0:
        how = process.exit_signal[0] if process.exit_signal else process.exit_status
        why = f"{argv[0]} ended with {how}{said(written)}"
        raise TargetError(what, why, "run the command there by hand to see what it lacks")
