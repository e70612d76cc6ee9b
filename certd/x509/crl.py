"""A CA's list of what it has revoked (RFC 5280 section 5): which a leaf names, and what it says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from certd.errors import CAError, CertdError, plain
from certd.x509.checking import CLOCK_SKEW
from certd.x509.reading import read_chain, shown_name


class BadCRL(CAError):
    """It is no list of this issuer's, or none that may be believed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a CRL says of one certificate; ``reason`` as in RFC 5280 section 5.3.1."""

    reason: str
    revoked_at: datetime


@dataclass(frozen=True, slots=True)
class CRL:
    """``listed`` has what it says of those that were asked for, by serial number.

    ``next_update`` may be in the past: what such a list has is revoked all the same, but
    what it lacks may have been revoked since.
    """

    listed: Mapping[int, Listed]
    next_update: datetime


def crl_url(leaf_pem: str) -> str:
    """Where the CA lists what it has revoked, "" if nowhere: the first http URL of a
    distribution point for all reasons (RFC 5280 section 4.2.1.13).

    Lists are fetched by http: they are signed themselves, and whoever fetched one by https
    would need another first.
    """
    try:
        leaf = read_chain(leaf_pem)[0]
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (CertdError, ValueError, x509.ExtensionNotFound):
        return ""
    for point in points:
        if point.reasons or point.crl_issuer:
            continue
        for name in point.full_name or ():
            if isinstance(name, x509.UniformResourceIdentifier) and _is_http(name.value):
                return name.value
    return ""


def read_crl(der: bytes, issuer_pem: str, url: str, wanted: Collection[int], now: datetime) -> CRL:
    """What the list from ``url`` says of these serial numbers.

    ``issuer_pem`` is the chain of a leaf that names it: the first of it signs leaf and list.

    Raises:
        BadCRL: it is none, or not one that this issuer signed for its leaves.
    """
    try:
        issuer = read_chain(issuer_pem)[0]
        crl = x509.load_der_x509_crl(der)
        _check(crl, issuer, url, now)
        listed = {
            entry.serial_number: Listed(_reason(entry), entry.revocation_date_utc)
            for entry in crl
            if entry.serial_number in wanted
        }
        if crl.next_update_utc is None:
            raise _refused(url, "it does not say until when")
        return CRL(listed, crl.next_update_utc)
    except CertdError:
        raise
    # Not a list of types: a parser fails as it likes, and these are a stranger's octets.
    except Exception as error:
        why = f"it cannot be read ({plain(type(error).__name__)}: {plain(str(error))})"
        raise _refused(url, why) from error


def _check(
    crl: x509.CertificateRevocationList, issuer: x509.Certificate, url: str, now: datetime
) -> None:
    if crl.issuer != issuer.subject:
        raise _refused(url, f"it is {shown_name(crl.issuer)}'s, not {shown_name(issuer.subject)}'s")
    key = issuer.public_key()
    if not crl.is_signature_valid(key):  # type: ignore[arg-type]  # others raise TypeError
        raise _refused(url, f"{shown_name(issuer.subject)} has not signed it")
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and not usage.crl_sign:
        raise _refused(url, f"{shown_name(issuer.subject)} may not sign lists (key usage)")
    if crl.last_update_utc > now + CLOCK_SKEW:
        raise _refused(url, f"it is from {crl.last_update_utc:%F %H:%MZ}, which is still to come")
    for extension in crl.extensions:
        if isinstance(extension.value, x509.IssuingDistributionPoint):
            _check_scope(extension.value, url)
        elif extension.critical:  # section 5.2: what is not understood may change everything
            raise _refused(url, f"it has a critical extension {extension.oid.dotted_string}")


def _check_scope(point: x509.IssuingDistributionPoint, url: str) -> None:
    """Section 6.3.3 (b)(2): is it about our leaf, and not another part of the CA's lists?"""
    if point.only_contains_ca_certs or point.only_contains_attribute_certs or point.indirect_crl:
        raise _refused(url, "it is not about servers' certificates of this CA")
    names = [
        name.value
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    ]
    if point.relative_name or (names and url not in names):
        raise _refused(url, "it is another of the CA's lists")


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except x509.ExtensionNotFound:
        return "unspecified"


def _is_http(url: str) -> bool:
    return url.lower().startswith("http://") and len(url) <= 2048 and url.isprintable()


def _refused(url: str, why: str) -> BadCRL:
    return BadCRL(f"the list {plain(url)} is not believed", why)
