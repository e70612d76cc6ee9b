"""Certificates minted for tests: a root, what it signs, and what goes wrong with leaves."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certd.model import Bundle, Identifier
from certd.secrets import Secret
from certd.x509 import facts, new_key

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


def pem(*certificates: x509.Certificate) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates).decode()


def identifiers(*names: str) -> tuple[Identifier, ...]:
    return tuple(
        Identifier("ip" if isinstance(_general(name), x509.IPAddress) else "dns", name)
        for name in names
    )


@dataclass(frozen=True)
class Authority:
    """A CA certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def root(cls, name: str = "Root X") -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_signed(_name(name), _name(name), key.public_key(), key, is_ca=True), key)

    def authority(self, name: str, *, not_after: datetime = NOW + 1000 * DAY) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        return Authority(self._sign(_name(name), key, not_after=not_after, is_ca=True), key)

    def cross_sign(self, other: Authority) -> x509.Certificate:
        """The other's name and key, certified by this one."""
        return self._sign(other.certificate.subject, other.key, is_ca=True)

    def leaf(
        self,
        key: Secret,
        *names: str,
        not_before: datetime = NOW - HOUR,
        not_after: datetime = NOW + 90 * DAY,
        is_ca: bool = False,
        usages: Sequence[x509.ObjectIdentifier] = SERVER,
        others: Sequence[x509.GeneralName] = (),
        serial: int | None = None,
        crls: Sequence[x509.DistributionPoint] = (),
    ) -> x509.Certificate:
        extensions: list[x509.ExtensionType] = [
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        ]
        if names or others:
            extensions.append(x509.SubjectAlternativeName([*map(_general, names), *others]))
        if usages:
            extensions.append(x509.ExtendedKeyUsage(usages))
        if crls:
            extensions.append(x509.CRLDistributionPoints(crls))
        private = load_pem_private_key(key.reveal().encode(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)  # noqa: S101 - narrows the type
        return self._sign(
            x509.Name([]),
            private,
            not_before=not_before,
            not_after=not_after,
            is_ca=is_ca,
            extensions=extensions,
            serial=serial,
        )

    def crl(
        self,
        *serials: int,
        reason: x509.ReasonFlags | None = None,
        last_update: datetime = NOW - HOUR,
        next_update: datetime = NOW + DAY,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> bytes:
        """A list of what this has revoked, in DER; with each extension whether it is critical."""
        builder = x509.CertificateRevocationListBuilder(
            self.certificate.subject, last_update, next_update
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, last_update)
            if reason is not None:
                entry = entry.add_extension(x509.CRLReason(reason), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        **rest: object,
    ) -> x509.Certificate:
        issuer = self.certificate.subject
        return _signed(subject, issuer, key.public_key(), self.key, **rest)  # type: ignore[arg-type]


def distribution_point(*urls: str, **rest: object) -> x509.DistributionPoint:
    """Of a leaf: where the list of what was revoked is (RFC 5280 section 4.2.1.13)."""
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    others = {"relative_name": None, "reasons": None, "crl_issuer": None} | rest
    return x509.DistributionPoint(full_name=names or None, **others)  # type: ignore[arg-type]


def bundle(name: str = "www", version: int = 1, *names: str) -> Bundle:
    """A whole version as the core hands it to a target, valid from an hour ago."""
    root = Authority.root()
    middle = root.authority("Intermediate 1")
    key = new_key("ec-p256")
    now = datetime.now(UTC)
    leaf = middle.leaf(
        key, *(names or (f"{name}.example.com",)), not_before=now - HOUR, not_after=now + 90 * DAY
    )
    return Bundle(name, version, pem(leaf), pem(middle.certificate), key, facts(leaf))


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
    not_before: datetime = NOW - 10 * DAY,
    not_after: datetime = NOW + 1000 * DAY,
    extensions: Sequence[x509.ExtensionType] = (),
    serial: int | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(
        issuer, subject, public_key, serial or x509.random_serial_number(), not_before, not_after
    ).add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    for extension in extensions:
        # Where there is no subject, names must be (RFC 5280 section 4.2.1.6): Java minds.
        critical = isinstance(extension, x509.SubjectAlternativeName) and not list(subject)
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
