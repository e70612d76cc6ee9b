"""Certificates of unknown origin: read with caps, and what certd keeps of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certd.errors import BadCertificate, CertdError, plain
from certd.model import Certificate, Identifier
from certd.x509.keys import pin_of, spki, usages_of

MOST_BYTES = 256 * 1024  # of a chain; Let's Encrypt's is about 4 KiB
MOST_CERTIFICATES = 20
ASK_AGAIN = "what is in place stays there and the CA is asked again later"

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def read_chain(pem: str | bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, in its order; at least one.

    Raises:
        BadCertificate: it is something else, cut off, or too large; says what was found.
    """
    # Before the text is even encoded: the caps are what a hostile body meets first.
    if len(pem) > MOST_BYTES:
        raise _not_a_chain(f"{len(pem):,} bytes, more than the {MOST_BYTES:,} a chain may have")
    raw = pem.encode(errors="replace") if isinstance(pem, str) else pem
    begun = raw.count(_BEGIN)
    if not begun:
        raise _not_a_chain(_what_it_is(raw))
    if begun > MOST_CERTIFICATES:
        raise _not_a_chain(f"{begun} certificates, more than the {MOST_CERTIFICATES} allowed")
    if raw.count(_END) < begun:
        raise _not_a_chain("a PEM file that is cut off in a certificate")
    certificates: list[x509.Certificate] = []
    for number, part in enumerate(raw.split(_END)[:-1], 1):
        with distrust(f"certificate {number} of {begun} in the chain"):
            certificates += x509.load_pem_x509_certificates(part + _END)
    if len(certificates) != begun:
        raise _not_a_chain(f"{begun} certificates begun and {len(certificates)} readable")
    return certificates


def facts(leaf: x509.Certificate) -> Certificate:
    """What certd keeps of a leaf.

    Raises:
        BadCertificate: an extension or the key in it cannot be read.
    """
    with distrust("a certificate"):
        return Certificate(
            identifiers=tuple(_identifiers(san_of(leaf))),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            serial=_hexadecimal(leaf.serial_number),
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
            spki_sha256=pin_of(spki(leaf.public_key())),
            ari_id=_ari_id(leaf),
            issuer=shown_name(leaf.issuer),
            usages=usages_of(leaf),
        )


def facts_of_der(der: bytes) -> Certificate:
    """The same, of a leaf as a TLS server presents it.

    Raises:
        BadCertificate: it cannot be read.
    """
    with distrust("a certificate"):
        return facts(x509.load_der_x509_certificate(der))


def shown_name(name: x509.Name) -> str:
    """A subject or an issuer; RFC 4514 leaves what a terminal would obey in it."""
    return plain(name.rfc4514_string())


def fingerprint(pem: str) -> str:
    """Of the first certificate, as in its facts.

    Raises:
        BadCertificate: it cannot be read.
    """
    return read_chain(pem)[0].fingerprint(hashes.SHA256()).hex()


def _hexadecimal(number: int) -> str:
    """Whole octets, as openssl writes a serial number."""
    digits = f"{number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _ari_id(leaf: x509.Certificate) -> str | None:
    """Key identifier of the authority "." serial, as RFC 9773 section 4.1 writes them."""
    try:
        authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None
    if authority.key_identifier is None:
        return None
    # The content octets of the DER INTEGER: a leading zero keeps a high bit from being a sign.
    number = leaf.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    return f"{_base64url(authority.key_identifier)}.{_base64url(serial)}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def san_of(leaf: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _identifiers(names: Iterable[x509.GeneralName]) -> Iterator[Identifier]:
    for name in names:
        if isinstance(name, x509.DNSName):
            yield Identifier("dns", name.value.lower())
        elif isinstance(name, x509.IPAddress):
            yield Identifier("ip", str(name.value))


def _not_a_chain(found: str) -> BadCertificate:
    return BadCertificate("there is no certificate chain", f"found {found}", ASK_AGAIN)


def _what_it_is(raw: bytes) -> str:
    start = raw.lstrip()[:1024].lower()
    if not start:
        return "nothing"
    if start.startswith(b"<") and (b"html" in start or b"<head" in start or b"<body" in start):
        return "an HTML page"
    if start.startswith(b"{"):
        return "a JSON object"
    return f"{len(raw):,} bytes that are not PEM"


@contextmanager
def distrust(what: str) -> Iterator[None]:
    """Whatever cryptography makes of hostile DER becomes a BadCertificate."""
    try:
        yield
    except CertdError:
        raise
    # Not a list of types: fields are parsed only when they are looked at, and then raise
    # ValueError, TypeError, UnsupportedAlgorithm or even KeyError, as each parser likes.
    except Exception as error:
        why = plain(f"{type(error).__name__}: {error}")
        raise BadCertificate(f"{what} cannot be read", why, ASK_AGAIN) from error
