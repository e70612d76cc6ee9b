"""Opening the sockets of a responder, and saying why it cannot be done."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Iterable

from certd.errors import ChallengeError

MAX_CONNECTIONS = 15_000  # open at once
SPARE_FILES = 512  # descriptors that the rest of the daemon needs below RLIMIT_NOFILE
BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn
_PROBE_SECONDS = 1.0  # to an address of this very machine

PORTS = {"http": 80, "tls_alpn": 443, "distribution": 8443}  # where others ask, by table

# By table: what to do about a web server at the port, the socket unit, and how to do without.
_WAYS_OUT = {
    "http": (
        "set webroot in [http] to the folder that it serves instead of listen",
        "certd.socket",
        "set webroot in [http] to a folder that a web server serves",
    ),
    "tls_alpn": (
        'use challenge = "http-01" with its webroot, or have it pass connections with the ALPN '
        "protocol acme-tls/1 on to another port, and set that in [tls_alpn] listen",
        "certd-tls.socket",
        'use challenge = "http-01"',
    ),
    "distribution": (
        "choose another port in [distribution] listen",
        "",
        "choose a port above 1023 in [distribution] listen",
    ),
}


class PortTaken(ChallengeError):
    """Another process listens there; it may well be certd's own daemon."""


def open_sockets(
    addresses: Iterable[tuple[str, int]], who: str = "the HTTP-01 responder", table: str = "http"
) -> list[socket.socket]:
    """Listening sockets for these hosts and ports, the caller's to close.

    ``who`` wants them, and ``table`` of the configuration names them.

    An IPv6 one takes IPv6 only, so that ``0.0.0.0`` and ``::`` stand side by side. An
    address family that this machine lacks is left out as long as another is there.

    Raises:
        PortTaken: something listens there already.
        ChallengeError: an address cannot be had; none of the sockets is left open.
    """
    opened: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for host, port in addresses:
            try:
                opened.append(_listen(host, port))
            except OSError as error:
                if not _family_lacking(error, host):
                    raise _explained(error, host, port, who, table) from error
                lacking = error
        if not opened and lacking is not None:
            raise ChallengeError(
                f"{who} has no address to listen on",
                f"this machine lacks the address family of every one in [{table}] listen",
                f"add an IPv4 address, such as 0.0.0.0:{PORTS[table]}, to [{table}] listen",
            ) from lacking
    except ChallengeError:
        for sock in opened:
            sock.close()
        raise
    return opened


def affordable_connections() -> int:
    """How many connections this process may have open at once."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, files - SPARE_FILES))


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the connections of the process before.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _family_lacking(error: OSError, host: str) -> bool:
    if error.errno in (errno.EAFNOSUPPORT, socket.EAI_ADDRFAMILY):
        return True
    # With IPv6 switched off by sysctl the family exists, but none of its addresses does.
    # Of any other address the same error means a typing error: that one is reported.
    return error.errno == errno.EADDRNOTAVAIL and host in ("::", "::1")


def _explained(error: OSError, host: str, port: int, who: str, table: str) -> ChallengeError:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    what = f"{who} cannot listen on {shown}"
    stays, unit, instead = _WAYS_OUT[table]
    refused = error.errno in (errno.EACCES, errno.EPERM)
    # Below port 1024 the kernel asks for the right to a port before it looks whether the
    # port is free: the one-shot command of an unprivileged user beside the daemon.
    if error.errno == errno.EADDRINUSE or (refused and _answers(host, port)):
        return PortTaken(
            what,
            f"another process has port {port}",
            f"find it with `ss -ltnp 'sport = :{port}'`; if it is a web server that stays, {stays}",
        )
    if refused:
        by_unit = unit and f"enable the systemd socket unit (systemctl enable --now {unit}), or "
        return ChallengeError(
            what,
            f"only a privileged process may take port {port}",
            f"{by_unit}give certd CAP_NET_BIND_SERVICE, or {instead}",
        )
    return ChallengeError(what, error.strerror or str(error), f"correct listen in [{table}]")


def _answers(host: str, port: int) -> bool:
    try:
        # To a wildcard address means to this machine.
        socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True
