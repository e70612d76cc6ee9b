"""Talking to systemd: sd_notify, the watchdog, sockets that it opened for us.

The protocols are stable and small (sd_notify(3), sd_watchdog_enabled(3),
sd_listen_fds(3)), so no library is needed. Without systemd every function does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

from certd.errors import ConfigError

FIRST_FD = 3  # SD_LISTEN_FDS_START
TLS_ALPN = "tls-alpn-01"  # FileDescriptorName= of certd-tls.socket

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Passed:
    """Listening sockets that systemd opened for us."""

    http: tuple[socket.socket, ...] = ()
    tls_alpn: tuple[socket.socket, ...] = ()


NONE_PASSED = Passed()


def notify(*lines: str) -> bool:
    """Tell systemd; False: nobody was told, which is no error.

    Lines are ``READY=1``, ``RELOADING=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=text``.
    ``RELOADING=1`` gets its MONOTONIC_USEC, without which systemd 253 and newer ignore it;
    ``READY=1`` ends the reloading.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract name space
    # One line each: a STATUS of several would be read as other variables.
    said = [" ".join(line.splitlines()) for line in lines]
    if "RELOADING=1" in said:
        said.append(f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1)
            sock.connect(address)
            sock.sendall("\n".join(said).encode())
    except OSError as error:
        # The work matters more than telling of it; a lost WATCHDOG=1 will be followed by more.
        log.warning("systemd was not told %s: %s", lines[0].partition("=")[0], error.strerror)
        return False
    return True


def watchdog_interval() -> float | None:
    """Seconds between two ``WATCHDOG=1``: half of what systemd allows. None: it does not watch."""
    pid = os.environ.get("WATCHDOG_PID")
    allowed = os.environ.get("WATCHDOG_USEC", "")
    if pid not in (None, str(os.getpid())) or not allowed.isdecimal() or int(allowed) == 0:
        return None
    return int(allowed) / 2_000_000


def listen_sockets(environ: MutableMapping[str, str] = os.environ) -> Passed:
    """The listening sockets that systemd opened for this process, the caller's to close.

    Those of a unit with ``FileDescriptorName=tls-alpn-01`` are for that, all others for HTTP.

    Their variables are removed, and programs that we start do not inherit them: hooks
    must not take them for theirs. A second call gives none.

    Raises:
        ConfigError: one of them is not a listening stream socket.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return NONE_PASSED
    sockets: dict[bool, list[socket.socket]] = {True: [], False: []}
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        try:
            sock = socket.socket(fileno=fd)
            by_tls = names[fd - FIRST_FD : fd - FIRST_FD + 1] == [TLS_ALPN]
            sockets[by_tls].append(sock)
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listening = 0
        if not listening or sock.type != socket.SOCK_STREAM:
            raise ConfigError(
                f"descriptor {fd} from systemd is not a listening stream socket",
                "certd accepts the connections itself",
                "use ListenStream= and no Accept=yes in certd.socket",
            )
    return Passed(tuple(sockets[False]), tuple(sockets[True]))
