"""What a CA of our own signs: a root, its intermediates, leaves (RFC 5280). Pure: no I/O.

What a root permits (name constraints, RFC 5280 section 4.2.1.10) is read from its certificate,
so that nothing else can say otherwise.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certd.errors import BadCertificate
from certd.model import Identifier, IPNetwork, Subtree
from certd.secrets import Secret
from certd.x509.keys import EXTENDED, PrivateKey, general_name, load_key, spki, usages_of
from certd.x509.requests import names_of

ROOT_LIFETIME = timedelta(days=3653)  # ten years
INTERMEDIATE_LIFETIME = timedelta(days=365)
BACKDATED = timedelta(minutes=5)  # for clients whose clock is behind; less for very short lives
LONGEST_CN = 64  # characters (RFC 5280 appendix A.1, ub-common-name)

_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def new_root(key_pem: Secret, label: str, permitted: Sequence[Subtree], now: datetime) -> str:
    """A root in PEM, for these names and addresses and all below them; for all if none is given."""
    key = load_key(key_pem)
    name = _named(f"{label} root", key)
    builder = _authority(name, name, key, 1, now, now + ROOT_LIFETIME)
    builder = _with_keys(builder, key.public_key(), key.public_key())
    if permitted:
        builder = builder.add_extension(_constraints(permitted), critical=True)
    return _signed(builder, key)


def new_intermediate(key_pem: Secret, root_pem: str, root_key: Secret, now: datetime) -> str:
    """An intermediate in PEM, which outlives no root and may do what its root may.

    The root's constraints are repeated: some clients do not look at those of a root.
    """
    key, issuer = load_key(key_pem), x509.load_pem_x509_certificate(root_pem.encode())
    label = _common_name(issuer.subject).partition(" root ")[0]
    until = min(now + INTERMEDIATE_LIFETIME, issuer.not_valid_after_utc)
    name = _named(f"{label} intermediate", key)
    builder = _authority(name, issuer.subject, key, 0, now, until)
    builder = _with_keys(builder, key.public_key(), issuer.public_key())
    builder = builder.add_extension(x509.ExtendedKeyUsage(EXTENDED.values()), critical=False)
    if constraints := _constraints_of(issuer):
        builder = builder.add_extension(constraints, critical=True)
    return _signed(builder, load_key(root_key))


def new_leaf(
    csr_der: bytes, issuer_pem: str, issuer_key: Secret, lifetime: timedelta, now: datetime
) -> str:
    """The leaf in PEM that a signing request asks for: its key, names and usages, nothing else.

    Raises:
        BadCertificate: the request is not signed with its own key, or has no names.
    """
    csr = x509.load_der_x509_csr(csr_der)
    key = csr.public_key()
    identifiers = names_of(csr)
    if not csr.is_signature_valid or not identifiers:
        why = "it has no names" if csr.is_signature_valid else "its signature is not its key's"
        raise BadCertificate("the signing request is refused", why)
    names = x509.SubjectAlternativeName([general_name(one) for one in identifiers])
    issuer = x509.load_pem_x509_certificate(issuer_pem.encode())
    first = next(iter(names.get_values_for_type(x509.DNSName)), "")
    # A subject is for servers that tell their clients apart by it, such as PostgreSQL.
    subject = _name(first) if 0 < len(first) <= LONGEST_CN else x509.Name([])
    usages = [EXTENDED[usage] for usage in usages_of(csr)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - min(BACKDATED, lifetime / 20))
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        # Section 4.2.1.6: critical where there is no subject.
        .add_extension(names, critical=not subject.rdns)
    )
    return _signed(_with_keys(builder, key, issuer.public_key()), load_key(issuer_key))


def permits(authority_pem: str) -> list[str]:
    """What it permits, as ``certd ca init --permit`` takes it; nothing: everything."""
    found = _constraints_of(x509.load_pem_x509_certificate(authority_pem.encode()))
    return [str(one.value) for one in (found.permitted_subtrees if found else None) or ()]


def outside(authority_pem: str, identifiers: Iterable[Identifier]) -> list[Identifier]:
    """Those that its name constraints do not permit (section 4.2.1.10)."""
    found = _constraints_of(x509.load_pem_x509_certificate(authority_pem.encode()))
    if found is None:
        return []
    permitted, excluded = found.permitted_subtrees or [], found.excluded_subtrees or []
    return [
        one
        for one in identifiers
        if any(_within(one, tree) for tree in excluded)
        or not any(_within(one, tree) for tree in permitted)
    ]


def _within(identifier: Identifier, tree: x509.GeneralName) -> bool:
    if identifier.type == "ip":
        address = ipaddress.ip_address(identifier.value)
        return isinstance(tree, x509.IPAddress) and address in _network(tree)
    if not isinstance(tree, x509.DNSName):
        return False
    base = identifier.value.removeprefix("*.")
    return not tree.value or base == tree.value or base.endswith(f".{tree.value}")


def _network(tree: x509.IPAddress) -> IPNetwork:
    assert isinstance(tree.value, ipaddress.IPv4Network | ipaddress.IPv6Network)  # noqa: S101
    return tree.value


def _constraints(permitted: Sequence[Subtree]) -> x509.NameConstraints:
    """Of a kind of which nothing is permitted, everything is excluded.

    Else a root for names alone would be good for every address: a constraint holds for its
    own kind only.
    """
    names = [x509.DNSName(tree) for tree in permitted if isinstance(tree, str)]
    networks = [x509.IPAddress(tree) for tree in permitted if not isinstance(tree, str)]
    excluded: list[x509.GeneralName] = [] if names else [x509.DNSName("")]
    versions = {tree.value.version for tree in networks}
    excluded += [x509.IPAddress(every) for every in _EVERYWHERE if every.version not in versions]
    return x509.NameConstraints([*names, *networks], excluded or None)


def _constraints_of(authority: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    below: int,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    """``below``: how many authorities may stand below it (the path length)."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )


def _with_keys(
    builder: x509.CertificateBuilder,
    subject: CertificatePublicKeyTypes,
    issuer: CertificatePublicKeyTypes,
) -> x509.CertificateBuilder:
    """With the two key identifiers (sections 4.2.1.1 and 4.2.1.2)."""
    ours = x509.SubjectKeyIdentifier.from_public_key(subject)
    theirs = x509.SubjectKeyIdentifier.from_public_key(issuer)
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(theirs)
    return builder.public_key(subject).add_extension(ours, False).add_extension(above, False)


def _key_usage(key: object) -> x509.KeyUsage:
    """What TLS asks of a leaf; an RSA key may be enciphered to, by TLS 1.2 at its oldest."""
    return _usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPublicKey))


def _usage(**uses: bool) -> x509.KeyUsage:
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{use: uses.get(use, False) for use in every})


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> str:
    large = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
    signed = builder.sign(key, hashes.SHA384() if large else hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def _named(text: str, key: PrivateKey) -> x509.Name:
    """With a piece of its key: two authorities of one name confuse trust stores."""
    return _name(f"{text} {hashlib.sha256(spki(key.public_key())).hexdigest()[:8]}")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
