"""One HTTP GET as a CA does it: no verification, no proxies, bounded in time and size.

``requests`` and ``urllib3`` bound the time between two bytes only, and decide for
themselves where to connect; a self-check needs to decide both.
"""

from __future__ import annotations

import http.client
import io
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import cast

MAX_ANSWER = 64 * 1024  # bytes of status, headers and body


class NoAnswer(Exception):
    """``why`` there was none, and what to do ``next``; without a word of the server's."""

    def __init__(self, why: str, next: str) -> None:
        super().__init__(why, next)
        self.why = why
        self.next = next


@dataclass(frozen=True, slots=True)
class Place:
    """Where to fetch; ``path`` includes the query and is fit for a request line."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        """Without the path, for it ends in a token."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == default_port(self.scheme) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    server: str
    location: str
    content_type: str
    body: bytes
    address: str  # that it came from


def default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def fetch(place: Place, end: float, connect: tuple[str, int] | None = None) -> Answer:
    """What is at this place, until ``end`` (monotonic clock).

    ``connect`` is the address to go to instead of what the name resolves to.

    Raises:
        NoAnswer: nothing came back that is HTTP.
    """
    sock, address = _connected(place, end, [connect] if connect else _resolved(place, end))
    try:
        with sock:
            sock.settimeout(_left(end))
            if place.scheme == "https":
                sock = _unverified().wrap_socket(sock, server_hostname=place.host)
            with sock:
                sock.sendall(
                    f"GET {place.path} HTTP/1.1\r\nHost: {place.authority}\r\n"
                    "User-Agent: certd self-check\r\nAccept: */*\r\n"
                    "Connection: close\r\n\r\n".encode("ascii")
                )
                return _read(sock, address, end)
    except TimeoutError as error:
        raise NoAnswer(
            f"{address} accepted the connection but did not answer {place} in time",
            "look at what listens there and why it is slow",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        # An HTTPException repeats what the server sent: its type must do.
        why = error.strerror if isinstance(error, OSError) else None
        raise NoAnswer(
            f"{address} did not speak {place.scheme} ({why or type(error).__name__})",
            f"look at what listens there: it must speak plain {place.scheme}",
        ) from None


def _read(sock: socket.socket, address: str, end: float) -> Answer:
    source = cast(socket.socket, _Bounded(sock, end))
    with http.client.HTTPResponse(source, method="GET") as response:
        response.begin()
        return Answer(
            response.status,
            response.getheader("Server", ""),
            response.getheader("Location", ""),
            response.getheader("Content-Type", ""),
            response.read(MAX_ANSWER),
            address,
        )


def _connected(
    place: Place, end: float, addresses: list[tuple[str, int]]
) -> tuple[socket.socket, str]:
    failures: list[str] = []
    for number, (host, port) in enumerate(addresses):
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        share = _left(end) / (len(addresses) - number)  # a silent one leaves time for the others
        try:
            return socket.create_connection((host, port), timeout=share), shown
        except ConnectionRefusedError:
            failures.append(f"{shown} refused the connection")
        except TimeoutError:
            failures.append(f"{shown} did not answer")
        except OSError as error:
            failures.append(f"{shown}: {error.strerror or type(error).__name__}")
    raise NoAnswer(
        ", ".join(failures),
        f"let port {place.port} of {place.host} reach certd: look at listen in [http], "
        "`systemctl status certd.socket` and firewalls",
    )


def _resolved(place: Place, end: float) -> list[tuple[str, int]]:
    """Every address, IPv6 first as Let's Encrypt tries them."""
    answers: queue.Queue[list[str] | OSError | UnicodeError] = queue.Queue()

    # The resolver knows no deadline: a thread of its own is left behind when it is late.
    def resolve() -> None:
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
            found.sort(key=lambda entry: entry[0] != socket.AF_INET6)
            answers.put([str(address[0]) for *_, address in found])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=resolve, name="self-check-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_left(end))
    except queue.Empty:
        answer = TimeoutError("no answer in time")
    if isinstance(answer, list):
        return [(host, place.port) for host in answer]
    raise NoAnswer(
        f"{place.host} does not resolve ({getattr(answer, 'strerror', None) or answer})",
        f"point an A or AAAA record of {place.host} at this machine",
    ) from answer


def _left(end: float) -> float:
    """Seconds until then, never 0: that would mean non-blocking."""
    return max(0.001, end - time.monotonic())


class _Bounded(io.RawIOBase):
    """Reads a socket up to MAX_ANSWER bytes and up to an instant of the monotonic clock.

    A time-out of the socket alone would start anew with each byte of a slow server.
    """

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end
        self._room = MAX_ANSWER

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not self._room:
            return 0
        self._sock.settimeout(left)
        count = self._sock.recv_into(buffer, min(len(buffer), self._room))
        self._room -= count
        return count


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
