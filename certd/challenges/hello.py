"""PURE: TLS-ALPN-01 on the wire: what a client asks for before it is answered (RFC 8446 section
4.1.2, RFC 8737 section 3), and how it is refused.

A stranger's bytes: whatever they are, reading them takes little time and raises NoHello only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from certd.model import Identifier

PROTOCOL = "acme-tls/1"
MAX_HELLO = 16 * 1024  # bytes, records and all; with post-quantum keys they have some 2,000

HANDSHAKE_FAILURE, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 40, 112, 120

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME, _ALPN = 22, 1, 0, 0, 16
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4  # bytes
_V4, _V6 = ".in-addr.arpa", ".ip6.arpa"


class NoHello(Exception):
    """What came is no ClientHello."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client asks for; ``server_name`` is lower-case, or empty."""

    server_name: str
    protocols: tuple[bytes, ...]

    @property
    def validates(self) -> bool:
        """Whether it is a CA's: it offers the one protocol and no other."""
        return self.protocols == (PROTOCOL.encode(),)


def read_hello(received: bytes) -> Hello | None:
    """The ClientHello with which a connection begins; None: more of it has yet to come.

    Raises:
        NoHello: it is none, or longer than ``MAX_HELLO``.
    """
    message = _message(received)
    if message is None:
        if len(received) >= MAX_HELLO:
            raise NoHello("too long")
        return None
    body = _Bytes(message)
    body.take(2 + 32)  # version and random
    body.vector(1)  # session
    body.vector(2)  # ciphers
    body.vector(1)  # compression
    name = ""
    protocols: tuple[bytes, ...] = ()
    for kind, content in _extensions(body):
        if kind == _SERVER_NAME:
            name = _server_name(_Bytes(content))
        elif kind == _ALPN:
            protocols = _protocols(_Bytes(content))
    return Hello(name, protocols)


def alert(description: int) -> bytes:
    """A fatal alert, before any key is agreed on (RFC 8446 section 6)."""
    return bytes((21, 3, 3, 0, 2, 2, description))


def server_name(identifier: Identifier) -> str:
    """The SNI by which a CA asks: of an address its reverse name (RFC 8738 section 6)."""
    if identifier.type == "ip":
        return ipaddress.ip_address(identifier.value).reverse_pointer
    return identifier.value


def identifier(name: str) -> Identifier | None:
    """Whom a CA asks about by this SNI; None: nobody that can be."""
    try:
        if name.endswith(_V4):
            reverse = name.removesuffix(_V4).split(".")[::-1]
            return Identifier("ip", str(ipaddress.IPv4Address(".".join(reverse))))
        if name.endswith(_V6):
            nibbles = "".join(name.removesuffix(_V6).split(".")[::-1])
            return Identifier("ip", str(ipaddress.IPv6Address(bytes.fromhex(nibbles))))
    except ValueError:
        return None
    return Identifier("dns", name)


def _message(received: bytes) -> bytes | None:
    """The body of the first handshake message, which may be spread over several records."""
    message, at = b"", 0
    while len(message) < _MESSAGE_HEAD or len(message) < _length(message):
        head = received[at : at + _RECORD_HEAD]
        if (head and head[0] != _HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            raise NoHello("not a handshake of TLS")
        if len(head) < _RECORD_HEAD:
            return None
        length = int.from_bytes(head[3:5])
        record = received[at + _RECORD_HEAD : at + _RECORD_HEAD + length]
        if not length or (record and not message and record[0] != _CLIENT_HELLO):
            raise NoHello("not a ClientHello")
        if len(record) < length:
            return None
        message += record
        at += _RECORD_HEAD + length
    return message[_MESSAGE_HEAD : _length(message)]


def _length(message: bytes) -> int:
    return _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])


class _Bytes:
    """Read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise NoHello("it ends too early")
        self._at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        """What has its length, a number of ``size`` bytes, in front."""
        return self.take(self.number(size))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def _extensions(body: _Bytes) -> Iterator[tuple[int, bytes]]:
    seen = set()
    extensions = _Bytes(body.vector(2) if body else b"")
    while extensions:
        kind = extensions.number(2)
        if kind in seen:
            raise NoHello("an extension is there twice")
        seen.add(kind)
        yield kind, extensions.vector(2)


def _server_name(content: _Bytes) -> str:
    names = _Bytes(content.vector(2))
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            try:
                return name.decode("ascii").lower()
            except UnicodeDecodeError:
                raise NoHello("a name that is not ASCII") from None
    return ""


def _protocols(content: _Bytes) -> tuple[bytes, ...]:
    names, found = _Bytes(content.vector(2)), []
    while names:
        found.append(names.vector(1))
    return tuple(found)
