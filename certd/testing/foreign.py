"""What the CAs that are not Pebble need: their program, and a port 80 to look at.

They validate HTTP-01 where the RFC says, at port 80. Every address of 127.0.0.0/8 is this
machine's own, so each of them gets one of its own, and tests in parallel do not meet.
"""

from __future__ import annotations

import errno
import secrets
import shutil
import socket
import sys
from pathlib import Path

from certd.testing.processes import ComponentError, NotInstalled


def program(name: str, package: str) -> Path:
    """A program that a PyPI package brings: beside this interpreter, or on PATH.

    Raises:
        NotInstalled: it is at neither place.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise NotInstalled(package, f"there is no {name}", f"pip install {package}")
    return Path(found)


def address_with_port_80() -> str:
    """A loopback address whose port 80 is free, and ours to listen on.

    Raises:
        NotInstalled: this user may not, or somebody has port 80 of every address.
    """
    for _ in range(3):
        # Not 127.0.x.x: others have addresses there.
        address = ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, 80))
            except PermissionError as error:
                raise NotInstalled(
                    "the right to listen on port 80", str(error), "run the tests as root"
                ) from error
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise ComponentError("no port 80 on loopback", str(error)) from error
                continue
            return address
    raise NotInstalled(
        "a free port 80", "a server listens on it, on all addresses", "stop it for the tests"
    )
