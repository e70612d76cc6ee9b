"""What a target reads back: whose certificate it is, and whether the key is its own."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from certd.api import fingerprint


def pair_fingerprint(fullchain: str, key: str | None) -> str | None:
    """The leaf's fingerprint if ``key`` is the leaf's; None if the two are no working pair.

    A ``key`` of None is one that is not to be had, and so not looked at.
    """
    try:
        if key is not None and _public_of_leaf(fullchain) != _public_of_key(key):
            return None
        return fingerprint(fullchain)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _public_of_leaf(fullchain: str) -> bytes:
    leaf = x509.load_pem_x509_certificate(fullchain.encode())
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _public_of_key(key: str) -> bytes:
    private = load_pem_private_key(key.encode(), None)
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
