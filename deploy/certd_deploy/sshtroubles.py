"""What another machine refuses, as an error that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from certd.api import TargetError

if TYPE_CHECKING:
    import asyncssh


def stranger(
    what: str, host: str, host_key: str | None, seen: Sequence[asyncssh.SSHKey]
) -> TargetError:
    """It has shown these keys, and not the one that it was to show."""
    if not seen:
        return TargetError(what, f"{host} shows no host key that certd knows")
    line = seen[0].export_public_key().decode().strip()
    shown = f"{seen[0].get_fingerprint()} ({line})"
    if host_key is None:
        todo = f'compare it with the machine\'s own; if it is that, write host_key = "{line}"'
        return TargetError(what, f"host_key is not set; {host} shows {shown}", todo)
    why = f"{host} shows another host key than host_key: {shown}"
    return TargetError(what, why, "find out who answers there; if it has a new key, write that")


def advice(error: asyncssh.SFTPError) -> str:
    import asyncssh

    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return "let the user write there"
    if isinstance(error, asyncssh.SFTPNoSuchFile):
        return "make the folder above it there"
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return "use an SSH server that can replace files in one step, as OpenSSH's can"
    return "look whether there is room, and whether anything is in its way"
