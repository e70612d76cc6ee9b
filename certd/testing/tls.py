"""Certificates minted on the spot for test servers, and a look at what an endpoint serves."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class Minted:
    """Paths of PEM files: a root, and a leaf under it with its key."""

    root: Path
    fullchain: Path
    key: Path


def mint(folder: Path, names: Sequence[str] = ("localhost", "127.0.0.1", "::1")) -> Minted:
    """Write a new root, a leaf for these DNS names and IP addresses, and its key; good for a week.

    The extensions are those that strict verifiers (OpenSSL ``-x509_strict``) insist on.
    """
    root_key, leaf_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    root_name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"certd test root {folder.name}"[:64])]
    )
    root = (
        _builder(root_name, root_name, root_key.public_key(), root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        _builder(x509.Name([]), root_name, leaf_key.public_key(), root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Critical, for the subject is empty (RFC 5280 section 4.2.1.6).
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=True
        )
        .sign(root_key, hashes.SHA256())
    )
    minted = Minted(folder / "root.pem", folder / "fullchain.pem", folder / "key.pem")
    folder.mkdir(parents=True, exist_ok=True)
    minted.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    minted.fullchain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    minted.key.touch(mode=0o600)
    minted.key.write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return minted


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True, slots=True)
class Served:
    """The leaf that an endpoint presented.

    ``fingerprint`` is SHA-256 of the DER and ``serial`` the number, both in lower-case
    hexadecimal as in ``certd.model.Certificate``.
    """

    fingerprint: str
    serial: str
    names: tuple[str, ...]
    pem: str


def probe(
    port: int,
    server_name: str | None = None,
    *,
    host: str = "127.0.0.1",
    root: Path | None = None,
    seconds: float = 5.0,
) -> Served:
    """Shake hands with an endpoint, asking by SNI for ``server_name``.

    With ``root`` the chain and the name must verify up to it; without, anything is taken.

    Raises:
        OSError: no connection or no handshake (``ssl.SSLError`` is one).
    """
    if root is None:
        # Not the default context: that reads this machine's roots, 40 ms of processor time.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=root)
    with (
        socket.create_connection((host, port), timeout=seconds) as connection,
        context.wrap_socket(connection, server_hostname=server_name) as channel,
    ):
        der = channel.getpeercert(binary_form=True)
    if der is None:
        raise ssl.SSLError("the endpoint presented no certificate")
    return served(x509.load_der_x509_certificate(der))


def served(leaf: x509.Certificate) -> Served:
    """The facts that tests compare."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = x509.SubjectAlternativeName([])
    return Served(
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        serial=hexadecimal(leaf.serial_number),
        names=tuple(sorted(str(name.value) for name in alternative)),
        pem=leaf.public_bytes(serialization.Encoding.PEM).decode(),
    )


def hexadecimal(serial: int) -> str:
    """Whole octets, as certd and openssl write a serial number."""
    digits = f"{serial:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"
