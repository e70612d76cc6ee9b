"""Is what the CA sent what was asked for?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certd.errors import BadCertificate, CertdError, ExpiredCertificate, plain
from certd.model import SERVER, Bundle, Certificate, Identifier, Usage
from certd.secrets import Secret
from certd.x509.keys import load_key, pin, pin_of, spki
from certd.x509.reading import ASK_AGAIN, distrust, facts, read_chain, san_of, shown_name

CLOCK_SKEW = timedelta(minutes=5)  # by which a CA's clock may be ahead of ours


def check(
    pem: str | bytes,
    key_pem: Secret,
    identifiers: Iterable[Identifier],
    now: datetime,
    *,
    usages: Iterable[Usage] = SERVER,
    chain_required: bool = True,
) -> tuple[str, str, Certificate]:
    """The leaf, its chain (both PEM) and its facts, if this is what was asked for.

    The leaf is the certificate with our key; the chain is put in order from there, without
    a root at its end and without certificates that are not part of it. ``chain_required``
    is for CAs whose root issues leaves directly and who send the leaf alone: nothing in such
    a file tells it from one that lacks its intermediate, so by default it is refused.

    Raises:
        BadCertificate: it is not; says in which way.
        StoreError: our own key cannot be read.
    """
    return check_pin(
        pem, pin(key_pem), identifiers, now, usages=usages, chain_required=chain_required
    )


def check_pin(
    pem: str | bytes,
    ours: str,
    identifiers: Iterable[Identifier],
    now: datetime,
    *,
    usages: Iterable[Usage] = SERVER,
    chain_required: bool = True,
) -> tuple[str, str, Certificate]:
    """The same, where only the pin of the key is known."""
    wanted = sorted({_canonical(identifier) for identifier in identifiers})
    certificates = read_chain(pem)
    with distrust(_certificate_for(wanted)):
        leaf = next((one for one in certificates if pin_of(spki(one.public_key())) == ours), None)
        if leaf is None:
            raise _refused(wanted, "its public key is not the one that was asked for")
        found = facts(leaf)
        _check_leaf(leaf, found, wanted, now)
        for usage in usages:
            if usage not in found.usages:
                raise _refused(wanted, f"it may not be used by a TLS {usage} (extended key usage)")
        chain = _chain_of(leaf, certificates)
        if chain is None:
            if chain_required:
                raise _refused(wanted, f"its chain is missing: no certificate of {found.issuer}")
            chain = []
        for depth, link in enumerate(chain):
            if why := _unfit(link, depth, now):
                raise _refused(wanted, f"{shown_name(link.subject)} in its chain {why}")
        return _pem([leaf]), _pem(chain), found


def check_bundle(bundle: Bundle, now: datetime) -> None:
    """Whether it is still what was checked when it was issued: pair, names, chain, validity.

    Raises:
        BadCertificate: it is not; says in which way.
        StoreError: its key cannot be read.
    """
    facts = bundle.certificate
    ours = facts.spki_sha256 if bundle.keyless else pin(bundle.key_pem)
    wanted, usages = facts.identifiers, facts.usages
    _, chain, found = check_pin(
        bundle.fullchain_pem, ours, wanted, now, usages=usages, chain_required=False
    )
    if bool(chain) != bool(bundle.chain_pem):
        raise _refused(list(wanted), "its chain does not lead from the leaf")
    if found.fingerprint != facts.fingerprint:
        raise _refused(list(wanted), "its leaf is another than the one that was issued")


def _unfit(link: x509.Certificate, depth: int, now: datetime) -> str:
    """Why a client would not go through this intermediate, which has ``depth`` below it."""
    if link.not_valid_after_utc <= now:
        return "has expired"
    if link.not_valid_before_utc > now + CLOCK_SKEW:
        return "is not yet valid"
    length = link.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if length is not None and depth > length:
        return f"may have {length} intermediates below it only (path length)"
    try:
        usage = link.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    return "" if usage.key_cert_sign else "may not sign certificates (key usage)"


def pair_matches(fullchain_pem: str, key_pem: Secret) -> bool:
    """Whether the first certificate has this key; what cannot be read is no pair."""
    try:
        with distrust("a certificate"):
            leaf = spki(read_chain(fullchain_pem)[0].public_key())
        return leaf == spki(load_key(key_pem).public_key())
    except CertdError:
        return False


def _check_leaf(
    leaf: x509.Certificate, found: Certificate, wanted: list[Identifier], now: datetime
) -> None:
    present = set(found.identifiers)
    if lacking := [name for name in wanted if name not in present]:
        raise _refused(wanted, f"it lacks {_listed(lacking)}")
    if extra := sorted(present.difference(wanted)):
        raise _refused(wanted, f"it is also for {_listed(extra)}, which nobody asked for")
    if len(san_of(leaf)) != len(found.identifiers):
        raise _refused(wanted, "it has names that are neither DNS names nor IP addresses")
    clock = "compare this machine's clock with the CA's"
    if found.not_after <= now:
        why = f"it expired at {found.not_after:%Y-%m-%d %H:%M} UTC"
        raise ExpiredCertificate(_refused_one(wanted), why, clock, found.not_after)
    # The other way round needs no limit: CAs back-date, Let's Encrypt by an hour.
    if found.not_before > now + CLOCK_SKEW:
        raise _refused(
            wanted, f"it is not yet valid, until {found.not_before:%Y-%m-%d %H:%M} UTC", clock
        )
    if _is_ca(leaf):
        raise _refused(wanted, "it is the certificate of a CA, not of a server")


def _chain_of(
    leaf: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> list[x509.Certificate] | None:
    """The intermediates among these, leaf's issuer first; None: its issuer is not there."""
    pool = [one for one in certificates if one != leaf and _is_ca(one)]
    chain: list[x509.Certificate] = []
    link = leaf
    while True:
        issuers = [one for one in pool if one.subject == link.issuer and issued(one, link)]
        if not issuers:
            return chain or None
        # A root may be there beside a cross-signed twin: same name, same key, longer chain.
        twins = [one for one in issuers if not _is_root(one)]
        if not twins:
            return chain
        link = twins[0]
        pool.remove(link)
        chain.append(link)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether it was signed with this one's key, and says so."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and issued(certificate, certificate)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _canonical(identifier: Identifier) -> Identifier:
    # An IPv6 address has many spellings, and a certificate gives back only one of them.
    if identifier.type == "ip":
        return Identifier("ip", str(ipaddress.ip_address(identifier.value)))
    return identifier


def _pem(certificates: Iterable[x509.Certificate]) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates).decode()


def _listed(names: Sequence[Identifier]) -> str:
    shown = ", ".join(plain(name.value) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _certificate_for(wanted: Sequence[Identifier]) -> str:
    return f"the certificate for {_listed(wanted)}"


def _refused(wanted: Sequence[Identifier], why: str, next: str = ASK_AGAIN) -> BadCertificate:
    return BadCertificate(_refused_one(wanted), why, next)


def _refused_one(wanted: Sequence[Identifier]) -> str:
    return f"{_certificate_for(wanted)} is refused"
