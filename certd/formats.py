"""A bundle as one file, in each form that servers read.

Sources: RFC 7468 (PEM), RFC 7292 (PKCS#12), RFC 8018 (its modern encryption), RFC 5958 (the key
in DER). Many servers want one PEM file with leaf, chain and key; some the key first.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from certd import keystores
from certd.errors import ConfigError, TargetError
from certd.keystores import Content
from certd.secrets import Secret

_SHORTEST = 6  # characters of a key store's password, by Java's own programs
_PARTS: Mapping[str, tuple[str, ...]] = {
    "fullchain": ("leaf", "chain"),
    "cert": ("leaf",),
    "chain": ("chain",),
    "key": ("key",),
    "combined": ("leaf", "chain", "key"),
    "key-first": ("key", "leaf", "chain"),
}
_NO_KEY = "the private key is where its signing request was made: certd has never seen it"


@dataclass(frozen=True, slots=True)
class Format:
    """What is to be known of a format before there is a file in it."""

    description: str
    key: bool = False  # it holds the private key
    binary: bool = False
    password: bool = False  # it is locked by one, which it needs


FORMATS: Mapping[str, Format] = {
    "fullchain": Format("PEM: leaf, chain"),
    "cert": Format("PEM: leaf"),
    "chain": Format("PEM: the intermediates"),
    "key": Format("PEM: private key", key=True),
    "combined": Format("PEM: leaf, chain, private key", key=True),
    "key-first": Format("PEM: private key, leaf, chain", key=True),
    "pkcs12": Format(
        "PKCS#12, AES-256 and SHA-256: leaf, chain and key under a password",
        key=True,
        binary=True,
        password=True,
    ),
    "pkcs12-legacy": Format(
        "PKCS#12, 3DES and SHA-1: for old Windows, Java and Android",
        key=True,
        binary=True,
        password=True,
    ),
    "jks": Format("Java KeyStore, for what reads no PKCS#12", key=True, binary=True, password=True),
    "der": Format("DER: leaf", binary=True),
    "key-der": Format("DER: private key (PKCS#8)", key=True, binary=True),
}


class Parts(Protocol):
    """What a file is made of: each ``Bundle`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def leaf_pem(self) -> str: ...
    @property
    def chain_pem(self) -> str: ...
    @property
    def key_pem(self) -> Secret: ...
    @property
    def keyless(self) -> bool: ...


def format_named(name: str) -> Format:
    """
    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        todo = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(FORMATS)}"
        raise ConfigError(f"there is no format {json.dumps(name)}", "", todo)
    return FORMATS[name]


def render(bundle: Parts, format: str, password: Secret | None = None) -> bytes:
    """The bundle as the content of one file. PEM has no blank lines, which HAProxy minds.

    A format with a password has other octets each time: see ``is_rendered``.

    Raises:
        ConfigError: there is no such format, its password is missing or is none for it.
        TargetError: the bundle has no key, or what writes the format is not installed.
    """
    wanted = format_named(format)
    if wanted.key and bundle.keyless:
        raise TargetError(
            f"{bundle.name} cannot be had as {format}",
            f"that holds the private key: {_NO_KEY}",
            "choose fullchain, cert, chain or der, and put it beside your key",
        )
    if wanted.password:
        return keystores.write(format, _content(bundle), _password(format, password))
    if format == "der":
        import ssl

        return ssl.PEM_cert_to_DER_cert(bundle.leaf_pem)
    if format == "key-der":
        return _content(bundle).key
    return b"".join(_pem(bundle)[part] for part in _PARTS[format])


def is_rendered(data: bytes, bundle: Parts, format: str, password: Secret | None = None) -> bool:
    """Whether this is what ``render`` gives, but for what it draws anew each time.

    Raises:
        ConfigError, TargetError: as ``render``.
    """
    if format_named(format).password and not bundle.keyless:
        return keystores.holds(format, data, _content(bundle), _password(format, password))
    return data == render(bundle, format, password)


def _pem(bundle: Parts) -> Mapping[str, bytes]:
    texts = {"leaf": bundle.leaf_pem, "chain": bundle.chain_pem, "key": bundle.key_pem.reveal()}
    return {
        part: "".join(f"{line}\n" for line in text.splitlines() if line.strip()).encode()
        for part, text in texts.items()
    }


def _content(bundle: Parts) -> Content:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509 import load_pem_x509_certificates

    key = serialization.load_pem_private_key(bundle.key_pem.reveal().encode(), None)
    found = load_pem_x509_certificates((bundle.leaf_pem + bundle.chain_pem).encode())
    return Content(
        bundle.name,
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        tuple(each.public_bytes(Encoding.DER) for each in found),
    )


def _password(format: str, password: Secret | None) -> str:
    if password is None:
        raise ConfigError(f"{format} needs a password", "", "say where it is")
    text = password.reveal()
    # Java takes no other for AES, and what makes octets of the rest differs between programs.
    if not (text.isascii() and text.isprintable()):
        raise ConfigError(
            f"the password is none for {format}",
            "programs differ on what characters outside of printable ASCII mean",
            "choose another",
        )
    if format == "jks" and len(text) < _SHORTEST:
        why = f"Java's own programs take none of less than {_SHORTEST} characters"
        raise ConfigError("the password is none for jks", why, "choose a longer one")
    return text
