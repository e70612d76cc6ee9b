"""What a target reads back: whose certificate it is, and whether the key is its own."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from certd.api import fingerprint

PAIR = ("fullchain.pem", "privkey.pem")


def pair_fingerprint(fullchain: str, key: str | None) -> str:
    """The leaf's fingerprint if ``key`` is the leaf's; "" if the two are no working pair.

    A ``key`` of None is one that is not to be had, and so not looked at.
    """
    try:
        if key is not None and _public_of_leaf(fullchain) != _public_of_key(key):
            return ""
        return fingerprint(fullchain)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ""


def pair_of(files: Mapping[str, bytes]) -> tuple[str, str] | None:
    """The chain and the key, as they are; None: there are none."""
    try:
        fullchain, key = (files[name].decode() for name in PAIR)
    except (KeyError, UnicodeDecodeError):
        return None
    return fullchain, key


def _public_of_leaf(fullchain: str) -> bytes:
    leaf = x509.load_pem_x509_certificate(fullchain.encode())
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of_key(key: str) -> bytes:
    private = load_pem_private_key(key.encode(), None)
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
