"""Fetching a CA's list of what it has revoked: plain http, as such lists are, within limits.

The URL comes from a certificate, and so from the CA: it decides nothing but what is read.
"""

from __future__ import annotations

import socket
import time
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

from certd.ca.net import USER_AGENT
from certd.ca.reading import Reading, WireError
from certd.ca.route import DIRECT, Route
from certd.ca.wire import compose
from certd.errors import CAError, plain

MOST_OCTETS = 16 << 20  # of a list; Let's Encrypt's parts have some 100 KiB
SECONDS = 20.0  # for all of it
CONNECT_SECONDS = 5.0  # for one address

_CHUNK = 1 << 16  # octets read at once


def fetch(url: str, *, public: bool, route: Route = DIRECT) -> bytes:
    """The octets at this http URL, on the way that its CA is asked. No redirect is followed.

    ``public``: it is of a CA for everybody, whose list is at a public address and port 80.
    No CA's word sends certd to a service of this machine's network then; for a CA of one's
    own, only what no list can be at is left out. What a name leads to by a proxy is for that
    proxy to decide.

    Raises:
        CAError: there was no answer, or none that is a list; the text says why.
    """
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 80)
        if not address[0]:
            raise _failed(url, "it names no host")
        if public and address[1] != 80:
            raise _failed(url, f"port {address[1]} is none at which a public CA has its list")
        found = []
        if route.proxy is None or _is_address(address[0]):
            found = _addresses(url, address, route, public=public)
        return _exchange(url, parts, found, route)
    except TimeoutError as error:
        raise _failed(url, "it did not answer in time") from error
    except (OSError, ValueError, WireError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise _failed(url, plain(words), getattr(error, "next", "")) from error


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _addresses(
    url: str, address: tuple[str, int], route: Route, *, public: bool
) -> list[tuple[str, int]]:
    found = {str(info[4][0]): None for info in route.addresses(address)}
    allowed = [text for text in found if _allowed(text, public=public)]
    if not allowed:
        shown = ", ".join(found)
        raise _failed(url, f"{address[0]} is {shown}, where a list is not asked for")
    return [(text, address[1]) for text in allowed]


def _allowed(text: str, *, public: bool) -> bool:
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if public:
        return address.is_global and not address.is_multicast
    # Link-local: among them are the clouds' addresses for their machines' own secrets.
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


def _exchange(
    url: str, parts: SplitResult, addresses: list[tuple[str, int]], route: Route
) -> bytes:
    deadline = time.monotonic() + SECONDS
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": "application/pkix-crl, */*",
        "Connection": "close",
    }
    headers |= dict(line.split(": ", 1) for line in route.credentials())
    request = compose("GET", parts, None, headers, whole=route.proxy is not None)
    reading = Reading(False)
    received = 0
    with _connect(addresses, route, deadline) as connection:
        connection.sendall(request)
        while not reading.done:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_CHUNK)
            if not data:
                reading.end()
                break
            received += len(data)
            if received > MOST_OCTETS:
                raise _failed(url, f"it is longer than {MOST_OCTETS >> 20} MiB")
            reading.feed(data)
    if reading.status == 407 and route.proxy is not None:
        raise route.refused(reading, parts.netloc)
    if reading.status != 200:
        by = f" (by its proxy {route.name})" if route.proxy is not None else ""
        raise _failed(url, f"HTTP {reading.status}{by}")
    return b"".join(reading.body)


def _connect(addresses: list[tuple[str, int]], route: Route, deadline: float) -> socket.socket:
    """To the proxy, or to the first that takes a connection."""
    if route.proxy is not None:
        return route.connect_to_proxy(route.proxy, deadline, CONNECT_SECONDS)
    error: OSError = OSError("no address")
    for address in addresses[:4]:
        try:
            return route.connect(address, deadline, CONNECT_SECONDS)
        except OSError as failed:
            error = failed
    raise error


def _failed(url: str, why: str, next: str = "") -> CAError:
    return CAError(f"the list {plain(url)} was not fetched", why, next)
