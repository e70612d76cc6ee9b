"""Signing requests that were made elsewhere, with a key that certd never sees."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certd.errors import ConfigError, plain
from certd.model import Identifier, SigningRequest
from certd.x509.keys import KEY_TYPES, kind_of, pin_of, spki
from certd.x509.reading import distrust

MOST_BYTES = 64 * 1024
HOW_TO = "write one with `openssl req -new -key KEY -subj / -addext subjectAltName=DNS:NAME`"


def read_request(data: bytes) -> tuple[SigningRequest, str, frozenset[Identifier]]:
    """What a file in PEM or DER asks for: request, type of its key, and names.

    The names are those of the subjectAltName and the common name (RFC 8555 section 7.4).

    Raises:
        BadCertificate: it is no signing request.
        ConfigError: it is one that no CA would take.
    """
    with distrust("a signing request"):
        der = not data.lstrip().startswith(b"-----")
        csr = x509.load_der_x509_csr(data) if der else x509.load_pem_x509_csr(data)
        public, good = csr.public_key(), csr.is_signature_valid
        names = frozenset(names_of(csr))
    if not good:
        raise ConfigError("its signature is not by its own key", "it is damaged", HOW_TO)
    kind = kind_of(public)
    if kind not in KEY_TYPES:
        raise ConfigError(f"its key is {kind}", f"CAs take {', '.join(KEY_TYPES)}", HOW_TO)
    pem = csr.public_bytes(Encoding.PEM).decode()
    return SigningRequest(pem, pin_of(spki(public))), kind, names


def names_of(csr: x509.CertificateSigningRequest) -> list[Identifier]:
    """As they stand there, each once.

    Raises:
        ConfigError: there are others than DNS names and IP addresses.
    """
    found: list[Identifier] = []
    try:
        for name in csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            if isinstance(name, x509.DNSName):
                found.append(Identifier("dns", name.value.lower().rstrip(".")))
            elif isinstance(name, x509.IPAddress):
                found.append(Identifier("ip", str(name.value)))
            else:
                raise ConfigError(
                    "it has a name that is neither a DNS name nor an IP address",
                    plain(str(name.value)),
                    HOW_TO,
                )
    except x509.ExtensionNotFound:
        pass
    for attribute in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        common = str(attribute.value).lower()
        if all(one.value != common for one in found):
            found.append(Identifier("dns", common))
    return list(dict.fromkeys(found))
