"""Chains: which of those that a CA offers is the one that is wanted, and where one ends."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certd.x509.checking import issued
from certd.x509.reading import read_chain, shown_name


class Roots:
    """Certificates at which a chain may end. Only those that may matter are parsed."""

    def __init__(self, ders: Iterable[bytes]) -> None:
        self._ders = list(ders)

    def issuer_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Which of these has signed it, if any."""
        name = certificate.issuer.public_bytes()
        for der in self._ders:
            if name not in der:
                continue
            try:
                found = x509.load_der_x509_certificate(der)
            except ValueError:
                continue
            if issued(found, certificate):
                return found
        return None

    def with_sent(self, pem: str | bytes) -> Roots:
        """These and whatever a CA has sent, which may have its root among it."""
        return Roots([*self._ders, *(one.public_bytes(Encoding.DER) for one in read_chain(pem))])


def root_of(fullchain_pem: str, roots: Roots) -> str | None:
    """The root that this chain leads to, in PEM; None: none of these."""
    root = roots.issuer_of(read_chain(fullchain_pem)[-1])
    return root.public_bytes(Encoding.PEM).decode() if root else None


def ends_at(fullchain_pem: str) -> str:
    """Whom the last of the chain was issued by."""
    return shown_name(read_chain(fullchain_pem)[-1].issuer)


def fits(fullchain_pem: str, wanted: str, roots: Roots) -> int:
    """How well a chain is the one that is wanted: 2 it ends there, 1 it is on the way, 0 not.

    ``wanted`` is the common name of a root or an intermediate, the whole name as RFC 4514
    writes it, or the SHA-256 fingerprint of the certificate in lower-case hexadecimal. What
    is on the way to another root counts less: the same intermediate may lead to several.
    """
    certificates = read_chain(fullchain_pem)
    last, root = certificates[-1], roots.issuer_of(certificates[-1])
    if _is(last.issuer, wanted) or (root and _fingerprint(root) == wanted):
        return 2
    on_the_way = certificates[1:]
    named = any(_is(one.subject, wanted) or _fingerprint(one) == wanted for one in on_the_way)
    return int(named)


def _is(name: x509.Name, wanted: str) -> bool:
    common = [str(part.value) for part in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return wanted.casefold() in (
        *(text.casefold() for text in common),
        name.rfc4514_string().casefold(),
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
