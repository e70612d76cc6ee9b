"""One TLS handshake with one address of an endpoint, and the certificates that came with it.

Trust is not judged here: what was sent is told as it is, whoever has signed it.
"""

from __future__ import annotations

import _ssl
import contextlib
import errno
import hashlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from certd import x509
from certd.config.authorities import joined
from certd.errors import BadCertificate, TargetError, Unseen
from certd.model import Certificate, Identifier
from certd.verify import starttls as protocols
from certd.verify.talking import Refusal, left

# What OpenSSL calls an answer that is no TLS record.
_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG"}
# That this machine has no way to any address of a family, or knows the family not at all.
_NO_ROUTE = {errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_LOG = "look into the server's log"


class NoRoute(Unseen):
    """This machine has no way to addresses of that family, so nobody knows what is there."""


@dataclass(frozen=True, slots=True)
class Served:
    """The leaf that an endpoint presented, and how.

    ``certificate`` is None if the leaf is too odd to be read; its fingerprint still counts.
    ``sent`` are all certificates that came, in DER and in the order in which they came.
    """

    fingerprint: str  # SHA-256 of the DER, lower-case hexadecimal
    certificate: Certificate | None
    tls_version: str
    address: str  # the IP address that answered
    sent: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """How an address is asked. ``name`` is the endpoint that it is one of, for errors.

    With ``kind``, a KeyType, as a client that takes no other: of servers that have two. Such
    a one can be told by the cipher suites of TLS 1.2 only.
    """

    address: str
    port: int
    sni: str | None  # sent unless it is None
    seconds: float  # for connection, what comes before TLS, and handshake together
    starttls: str | None = None
    kind: str | None = None
    name: str = ""

    @property
    def where(self) -> str:
        at = joined(self.address, self.port)
        return f"{self.name} at {self.address}" if self.name and self.name != at else at


def probe(way: Way) -> Served:
    """Connect, shake hands, and tell what was presented.

    Raises:
        Unseen: there was no answer.
        TargetError: what answered showed no certificate; says how far it got.
    """
    what = f"{way.where} could not be asked for its certificate"
    with channel(way, what) as (shaken, _):
        sent, version = _sent(shaken), shaken.version()
    if not sent:
        raise TargetError(what, "it presented none", "check its TLS configuration")
    fingerprint = hashlib.sha256(sent[0]).hexdigest()
    return Served(fingerprint, _facts(sent[0]), version or "", way.address, sent)


@contextlib.contextmanager
def channel(way: Way, what: str) -> Iterator[tuple[ssl.SSLSocket, float]]:
    """The open channel, and its deadline; ``what`` begins the errors, which are ``probe``'s."""
    deadline = time.monotonic() + way.seconds
    try:
        connection = socket.create_connection((way.address, way.port), left(deadline))
    except OSError as error:
        raise _no_connection(what, error, way.seconds) from error
    with connection:
        try:
            if way.starttls:
                protocols.start(way.starttls, connection, deadline)
            # The handshake's time-out is for all of its messages, not for each.
            connection.settimeout(left(deadline))
            shaken = _context(way.kind).wrap_socket(connection, server_hostname=way.sni)
        except Refusal as error:
            kind = Unseen if error.passing else TargetError
            raise kind(what, error.why, error.next) from error
        except (OSError, ValueError) as error:
            raise _no_handshake(what, error, way) from error
        with shaken:
            yield shaken, deadline


def _sent(shaken: ssl.SSLSocket) -> tuple[bytes, ...]:
    """Whatever the server sent, as it sent it. Public from Python 3.13 on, there before."""
    public = getattr(shaken, "get_unverified_chain", None)
    if public is not None:
        return tuple(public())
    inner: Any = getattr(shaken, "_sslobj")  # noqa: B009 - not in the type stubs
    chain = inner.get_unverified_chain() or ()
    return tuple(one.public_bytes(_ssl.ENCODING_DER) for one in chain)


def sni_for(host: str, identifiers: Iterable[Identifier]) -> str | None:
    """The name to ask an endpoint for: the host if the leaf covers it, else the leaf's first.

    A server of many names is often reached by a name that is none of them. None, which
    asks for the default, if the leaf is for IP addresses only (RFC 6066 section 3).
    """
    leaf = list(identifiers)
    names = [one.value for one in leaf if one.type == "dns"]
    wanted = host.lower().rstrip(".")
    address = _ip_address(wanted)
    if address is None and {wanted, f"*.{wanted.partition('.')[2]}"}.intersection(names):
        return wanted
    if not names or Identifier("ip", address or "") in leaf:
        return None
    return names[0].replace("*.", "www.", 1)


def _ip_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _context(kind: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Old servers are to be seen as well: nothing is sent that would need protection.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if kind is not None:
        context.set_ciphers(f"{'aRSA' if kind.startswith('rsa-') else 'aECDSA'}:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _facts(der: bytes) -> Certificate | None:
    try:
        return x509.facts_of_der(der)
    except BadCertificate:
        return None


def _no_connection(what: str, error: OSError, seconds: float) -> Unseen:
    if isinstance(error, TimeoutError):
        why = f"no connection within {seconds:.2g} s"
        return Unseen(what, why, "check the address, and firewalls on the way")
    if isinstance(error, ConnectionRefusedError):
        why = "the connection was refused"
        return Unseen(what, why, "check that the server runs and listens there")
    why, todo = f"no connection: {error.strerror or error}", "check the address and the way to it"
    return (NoRoute if error.errno in _NO_ROUTE else Unseen)(what, why, todo)


def _no_handshake(what: str, error: OSError | ValueError, way: Way) -> TargetError:
    if isinstance(error, TimeoutError):
        if way.starttls:
            why = f"no TLS by way of {way.starttls} within {way.seconds:.2g} s"
            todo = f"check the port and starttls in verify = […], or {_LOG}"
            return Unseen(what, f"connected, but {why}", todo)
        return Unseen(what, f"connected, but no TLS handshake within {way.seconds:.2g} s", _LOG)
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if reason in _NOT_TLS:
        todo = "check the port, and whether it needs starttls, in verify = […]"
        return TargetError(what, "what answers there does not speak TLS", todo)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        before = "before TLS began, or " if way.starttls else ""
        return Unseen(what, f"the connection was closed {before}during the TLS handshake", _LOG)
    if "UNRECOGNIZED_NAME" in reason:
        return TargetError(what, f"it knows no server of the name {way.sni}", "check its names")
    why = reason.lower().replace("_", " ") or str(error)
    return TargetError(what, f"the TLS handshake failed: {why}", _LOG)
