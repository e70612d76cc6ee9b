"""Files that hold a key with its certificates under a password: PKCS#12, Java KeyStore.

Both draw salts, so that two files of one content differ: what is there is read to compare.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from certd.errors import TargetError

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

# Of PKCS#12. What guesses passwords is slowed down; Java refuses above 5,000,000.
_ROUNDS = 20_000
# What only the encryption of each has in it: an object identifier in DER (RFC 8018, RFC 7292).
_MARKS = {
    "pkcs12": bytes.fromhex("06092a864886f70d01050d"),
    "pkcs12-legacy": bytes.fromhex("060a2a864886f70d010c0103"),
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a key store is to hold; ``key`` is PKCS#8, certificates begin with the leaf, all DER."""

    name: str  # by which programs ask for the key in it
    key: bytes = field(repr=False)
    certificates: tuple[bytes, ...]


def write(format: str, content: Content, password: str) -> bytes:
    """
    Raises:
        TargetError: what writes it is not installed.
    """
    if format == "jks":
        library = _jks()
        entry = library.PrivateKeyEntry.new(content.name, content.certificates, content.key)
        data = library.KeyStore.new("jks", [entry]).saves(password)
        return bytes(data)
    return _pkcs12(content, _encryption(format, password.encode()))


def holds(format: str, data: bytes, content: Content, password: str) -> bool:
    """Whether such a file has this in it, under this password.

    Raises:
        TargetError: what reads it is not installed.
    """
    if format == "jks":  # which knows no capitals in names
        return _read_jks(data, password) == replace(content, name=content.name.lower())
    return _read_pkcs12(format, data, password.encode()) == content


def _read_pkcs12(format: str, data: bytes, password: bytes) -> Content | None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    marks = [name for name, mark in _MARKS.items() if mark in data]
    if marks != [format] or not _is_whole(data):
        return None
    try:
        found = pkcs12.load_pkcs12(data, password)
    except ValueError:
        return None
    if found.key is None or found.cert is None:
        return None
    every = (found.cert, *found.additional_certs)
    return Content(
        (found.cert.friendly_name or b"").decode(errors="replace"),
        found.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        tuple(each.certificate.public_bytes(Encoding.DER) for each in every),
    )


def _is_whole(data: bytes) -> bool:
    """Whether it is one value of DER, with nothing after it: what is not gives a warning."""
    size = data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0
    length = int.from_bytes(data[2 : 2 + size])
    return data[:1] == b"\x30" and size > 0 and len(data) == 2 + size + length


def _pkcs12(content: Content, encryption: KeySerializationEncryption) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12
    from cryptography.x509 import load_der_x509_certificate

    leaf, *chain = map(load_der_x509_certificate, content.certificates)
    key = load_der_private_key(content.key, None)
    assert isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey)  # noqa: S101 - as x509 makes
    try:
        name = content.name.encode()
        return pkcs12.serialize_key_and_certificates(name, key, leaf, chain, encryption)
    except UnsupportedAlgorithm as error:
        raise TargetError(
            "the PKCS#12 file cannot be written",
            f"this machine's cryptography refuses: {error}",
            "choose the format pkcs12, or allow 3DES there",
        ) from error


def _encryption(format: str, password: bytes) -> KeySerializationEncryption:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(_ROUNDS)
    if format == "pkcs12-legacy":
        algorithm = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC
        return builder.key_cert_algorithm(algorithm).hmac_hash(hashes.SHA1()).build(password)  # noqa: S303
    algorithm = pkcs12.PBES.PBESv2SHA256AndAES256CBC
    return builder.key_cert_algorithm(algorithm).hmac_hash(hashes.SHA256()).build(password)


def _read_jks(data: bytes, password: str) -> Content | None:
    library = _jks()
    try:
        found = library.KeyStore.loads(data, password)
    except Exception:  # the library lets out whatever damaged octets lead to
        return None
    if len(found.entries) != 1 or len(found.private_keys) != 1:
        return None
    [(name, entry)] = found.private_keys.items()
    if not entry.is_decrypted():
        return None
    return Content(name, bytes(entry.pkey_pkcs8), tuple(der for _, der in entry.cert_chain))


def _jks() -> ModuleType:
    try:
        return importlib.import_module("jks")
    except ImportError as error:
        raise TargetError(
            "a Java KeyStore cannot be written here",
            "the library for it is not installed",
            "pip install 'certd[jks]', or choose pkcs12, which Java reads since version 8",
        ) from error
