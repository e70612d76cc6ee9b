"""The certificate that answers a TLS-ALPN-01 challenge (RFC 8737 section 3, RFC 8738 section 6)."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certd.model import Identifier
from certd.secrets import Secret
from certd.x509.keys import general_name, load_key, new_key

_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTET_STRING = b"\x04\x20"  # DER: what follows is a string of 32 bytes
_LIFETIME = timedelta(days=1)  # nobody looks; the clocks of both sides may differ


def challenge_leaf(
    identifier: Identifier, key_authorization: Secret, now: datetime
) -> tuple[str, Secret]:
    """Self-signed, with a key of its own that is used for nothing else: both as PEM."""
    key_pem = new_key("ec-p256")
    key = load_key(key_pem)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([general_name(identifier)]), critical=False)
        .add_extension(_proof(key_authorization), critical=True)
        .sign(key, hashes.SHA256())
    )
    return leaf.public_bytes(Encoding.PEM).decode(), key_pem


def objection(leaf_der: bytes, identifier: Identifier, key_authorization: Secret) -> str:
    """Why a CA would not take this for the answer; empty: it would. None of it is secret."""
    try:
        extensions = x509.load_der_x509_certificate(leaf_der).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        proof = extensions.get_extension_for_oid(_ACME_IDENTIFIER)
    except x509.ExtensionNotFound as error:
        of = "acmeIdentifier" if error.oid == _ACME_IDENTIFIER else "names"
        return f"its certificate has no {of}: it is no answer to a challenge"
    # A stranger's: the reader fails as it likes.
    except Exception as error:
        return f"its certificate cannot be read ({type(error).__name__})"
    if list(names) != [general_name(identifier)]:
        return f"its certificate is not for {identifier} alone"
    if not proof.critical or proof.value != _proof(key_authorization):
        return "its certificate answers another challenge"
    return ""


def _proof(key_authorization: Secret) -> x509.UnrecognizedExtension:
    digest = hashlib.sha256(key_authorization.reveal().encode()).digest()
    return x509.UnrecognizedExtension(_ACME_IDENTIFIER, _OCTET_STRING + digest)
