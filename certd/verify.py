"""What does an endpoint really serve? One TLS handshake, and the leaf that came with it.

Trust is not judged here: the question is only whether it is the certificate that was
deployed, and a fingerprint answers it for CAs of every kind.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from certd import x509
from certd.errors import BadCertificate, TargetError
from certd.model import Certificate, Identifier

# What OpenSSL calls an answer that is no TLS record.
_NOT_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG"}


@dataclass(frozen=True, slots=True)
class Served:
    """The leaf that an endpoint presented, and how.

    ``certificate`` is None if the leaf is too odd to be read; its fingerprint still counts.
    """

    fingerprint: str  # SHA-256 of the DER, lower-case hexadecimal
    certificate: Certificate | None
    tls_version: str
    address: str  # the IP address that answered


def probe(
    host: str, port: int, sni: str | None, timeout_seconds: float, kind: str | None = None
) -> Served:
    """Connect, shake hands, and tell what was presented; ``sni`` is sent unless it is None.

    With ``kind``, a KeyType, as a client that takes no other: of servers that have two. Such
    a one can be told by the cipher suites of TLS 1.2 only.

    The time is for all addresses of the host and the handshake together; the look-up of
    the host's name comes before it, for the system's resolver has time-outs of its own.

    Raises:
        TargetError: no certificate was seen; says how far it got.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    what = f"{where} could not be asked for its certificate"
    addresses = _look_up(host, port, what)
    deadline = time.monotonic() + timeout_seconds
    try:
        connection = _connect(addresses, deadline)
    except OSError as error:
        raise TargetError(what, *_no_connection(error, timeout_seconds)) from error
    with connection:
        try:
            address = str(connection.getpeername()[0])
            # The handshake's time-out is for all of its messages, not for each.
            connection.settimeout(_left(deadline))
            with _context(kind).wrap_socket(connection, server_hostname=sni) as channel:
                der, version = channel.getpeercert(binary_form=True), channel.version()
        except (OSError, ValueError) as error:
            raise TargetError(what, *_no_handshake(error, sni, timeout_seconds)) from error
    if der is None:
        raise TargetError(what, "it presented none", "check its TLS configuration")
    return Served(hashlib.sha256(der).hexdigest(), _facts(der), version or "", address)


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


def _look_up(host: str, port: int, what: str) -> list[tuple[Any, ...]]:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TargetError(
            what, f"{host} cannot be looked up: {why}", "check the name in verify = […]"
        ) from error


def _connect(addresses: Sequence[tuple[Any, ...]], deadline: float) -> socket.socket:
    """A connection to the first address that takes one; each gets its share of the time."""
    refused: OSError = TimeoutError("timed out")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline) / (len(addresses) - tried))
            connection.connect(address)
        except OSError as error:
            connection.close()
            refused = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise refused


def _left(deadline: float) -> float:
    # Zero would mean "do not wait at all" to a socket, and fail with another error.
    return max(deadline - time.monotonic(), 0.001)


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


def _no_connection(error: OSError, seconds: float) -> tuple[str, str]:
    """Why, and what next."""
    if isinstance(error, TimeoutError):
        return f"no connection within {seconds:g} s", "check the address, and firewalls on the way"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused", "check that the server runs and listens there"
    return f"no connection: {error.strerror or error}", "check the address and the way to it"


def _no_handshake(error: OSError | ValueError, sni: str | None, seconds: float) -> tuple[str, str]:
    """Why, and what next."""
    look = "look into the server's log"
    if isinstance(error, TimeoutError):
        return f"connected, but no TLS handshake within {seconds:g} s", look
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if reason in _NOT_TLS:
        return "what answers there does not speak TLS", "check the port in verify = […]"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return "the connection was closed during the TLS handshake", look
    if "UNRECOGNIZED_NAME" in reason:
        return f"it knows no server of the name {sni}", "check its server names"
    if reason:
        return f"the TLS handshake failed: {reason.lower().replace('_', ' ')}", look
    return f"the TLS handshake failed: {error}", look
