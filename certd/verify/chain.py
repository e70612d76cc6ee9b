"""PURE: is the chain that a server sent one that its clients can do with?

Everything is judged by what was sent, as a client gets it that has nothing but its roots.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from datetime import datetime

from cryptography import x509 as pyca

from certd import x509
from certd.errors import BadCertificate
from certd.x509.checking import issued
from certd.x509.keys import pin_of, spki
from certd.x509.reading import MOST_CERTIFICATES, distrust


def lacking(sent: Sequence[bytes], chain_pem: str) -> str:
    """What is missing of the intermediates that were deployed; "" if nothing is.

    Another way from the leaf to the same root's name is as good, a longer one too: a server
    may have been given another chain on purpose.
    """
    deployed = x509.read_chain(chain_pem) if chain_pem else []
    if not deployed:
        return ""
    linked, end = _linked(sent), deployed[-1].issuer
    if any(one.issuer == end for one in linked):
        return ""
    there = {one.subject for one in _readable(sent)}
    missing = [x509.shown_name(one.subject) for one in deployed if one.subject not in there]
    if missing:
        return f"the intermediate {' and '.join(missing)} is missing"
    ends = x509.shown_name(linked[-1].issuer)
    return f"it leads to {ends} instead of {x509.shown_name(end)}"


def untrusted(sent: Sequence[bytes], roots_pem: bytes, now: datetime) -> str:
    """Why a client that trusts these and nothing else refuses the chain; "" if it takes it.

    OpenSSL judges, for it is what most clients have. Names are for others to compare.
    """
    # Here, not above: a daemon whose endpoints have no roots does without.
    from OpenSSL import crypto

    readable = _readable(sent)
    if not readable:
        return "its certificate cannot be read"
    store = crypto.X509Store()
    store.set_time(now.replace(tzinfo=None))
    # A root of the operator's may be signed by another: it is trusted, not whoever signed it.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for root in pyca.load_pem_x509_certificates(roots_pem):
        store.add_cert(crypto.X509.from_cryptography(root))
    leaf, *others = [crypto.X509.from_cryptography(one) for one in readable]
    try:
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        name = x509.shown_name(error.certificate.to_cryptography().subject) or "the leaf"
        return f"{error.errors[2]} ({name})" if len(error.errors) > 2 else str(error)
    return ""


def unpinned(sent: Sequence[bytes], pins: Collection[str]) -> str:
    """That none of these keys (pin-sha256) is in what was sent; "" if one is.

    Only what leads on from the leaf counts: anybody can send a certificate along.
    """
    with distrust("a certificate"):
        found = [pin_of(spki(one.public_key())) for one in _linked(sent)]
    if not set(pins).isdisjoint(found):
        return ""
    return f"none of its keys is pinned: it sent {', '.join(found) or 'none that can be read'}"


def _linked(sent: Sequence[bytes]) -> list[pyca.Certificate]:
    """The leaf, and all that lead on from it: there may be several ways to several roots."""
    readable = _readable(sent)
    linked, pool = readable[:1], readable[1:]
    for link in linked:  # which grows meanwhile
        following = [one for one in pool if one.subject == link.issuer and issued(one, link)]
        linked += following
        pool = [one for one in pool if one not in following]
    return linked


def _readable(sent: Sequence[bytes]) -> list[pyca.Certificate]:
    """What could be read; nothing where that is not so of the leaf."""
    certificates: list[pyca.Certificate] = []
    for at, der in enumerate(sent[:MOST_CERTIFICATES]):
        with contextlib.suppress(BadCertificate), distrust("a certificate"):
            certificates.append(pyca.load_der_x509_certificate(der))
        if not at and not certificates:
            break
    return certificates
