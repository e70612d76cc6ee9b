"""Private keys, and the signing requests made with them."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from certd.errors import StoreError
from certd.model import SERVER, Identifier, KeyType, Usage
from certd.secrets import Secret

KEY_TYPES: tuple[str, ...] = get_args(KeyType)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

EXTENDED: Mapping[Usage, x509.ObjectIdentifier] = {  # RFC 5280 section 4.2.1.12
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


def new_key(key_type: KeyType) -> Secret:
    """A fresh private key: PKCS#8 in PEM, not encrypted."""
    key: PrivateKey
    if key_type == "ec-p256":
        key = ec.generate_private_key(ec.SECP256R1())
    elif key_type == "ec-p384":
        key = ec.generate_private_key(ec.SECP384R1())
    else:
        key = rsa.generate_private_key(65537, int(key_type.removeprefix("rsa-")))
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def csr(
    key_pem: Secret, identifiers: Iterable[Identifier], usages: tuple[Usage, ...] = SERVER
) -> str:
    """A signing request in PEM: the names as SAN only, for CAs ignore or refuse a subject.

    For a server alone it names no usage: that is what every CA gives without being asked.
    """
    names = x509.SubjectAlternativeName([general_name(one) for one in identifiers])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, False)
    if usages != SERVER:
        extended = x509.ExtendedKeyUsage([EXTENDED[usage] for usage in usages])
        builder = builder.add_extension(extended, False)
    request = builder.sign(load_key(key_pem), hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def csr_usages(csr_pem: str) -> tuple[Usage, ...]:
    """What a signing request of ours asks for."""
    return usages_of(x509.load_pem_x509_csr(csr_pem.encode()))


def usages_of(signed: x509.Certificate | x509.CertificateSigningRequest) -> tuple[Usage, ...]:
    """What it is for, or asks to be for; a server where it does not say."""
    try:
        found = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return SERVER
    return tuple(usage for usage, identifier in EXTENDED.items() if identifier in found)


def csr_der(csr_pem: str) -> bytes:
    """The DER of a signing request of ours, as finalize wants it (RFC 8555 section 7.4)."""
    return x509.load_pem_x509_csr(csr_pem.encode()).public_bytes(Encoding.DER)


def pin_of_csr(csr_pem: str) -> str:
    """The SPKI pin of the key that a signing request is for, as in a certificate's facts."""
    return pin_of(spki(x509.load_pem_x509_csr(csr_pem.encode()).public_key()))


def type_of(key_pem: Secret) -> str:
    """The KeyType of a key; of one that certd would not make, words of the same form.

    Raises:
        StoreError: it cannot be read.
    """
    return kind_of(load_key(key_pem).public_key())


def kind_of(key: PublicKeyTypes) -> str:
    """The same of a public key, which may be of any kind."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves = {"secp256r1": "ec-p256", "secp384r1": "ec-p384"}
        return curves.get(key.curve.name, f"ec-{key.curve.name}")
    return type(key).__name__.removeprefix("_").removesuffix("PublicKey").lower()


def pin(key_pem: Secret) -> str:
    """SHA-256 of its SubjectPublicKeyInfo in base64 (RFC 7469 section 2.4): the SPKI pin.

    Raises:
        StoreError: it cannot be read.
    """
    return pin_of(spki(load_key(key_pem).public_key()))


def pin_of(spki_der: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, in base64 (RFC 7469 section 2.4)."""
    return base64.b64encode(hashlib.sha256(spki_der).digest()).decode()


def load_key(key_pem: Secret) -> PrivateKey:
    try:
        key = load_pem_private_key(key_pem.reveal().encode(), None)
    except (ValueError, TypeError) as error:
        # Their words may quote the file; ours do not.
        raise StoreError(
            "a private key cannot be read",
            f"{type(error).__name__}: it is not an unencrypted key in PEM",
            "restore the database from a backup, or force a renewal, which makes a new key",
        ) from None
    if not isinstance(key, PrivateKey):
        raise StoreError("a private key cannot be used", "it is neither EC nor RSA")
    return key


def spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def general_name(identifier: Identifier) -> x509.GeneralName:
    """As it stands among the names of a certificate (RFC 5280 section 4.2.1.6)."""
    if identifier.type == "ip":
        return x509.IPAddress(ipaddress.ip_address(identifier.value))
    return x509.DNSName(identifier.value)
