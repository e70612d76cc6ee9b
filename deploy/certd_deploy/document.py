"""A bundle as one JSON document: what programs and web hooks of the operator's are given.

    {"name": "www", "version": 7, "fingerprint": "9f86d0…", "names": ["www.example.com"],
     "not_before": "2026-06-01T12:00:00+00:00", "not_after": "2026-08-30T12:00:00+00:00",
     "fullchain": "PEM", "cert": "PEM", "chain": "PEM", "key": "PEM"}

``chain`` is "" where there are no intermediates. More keys may come; none will go.
"""

from __future__ import annotations

import json
import re

from certd.api import Bundle, Secret

_SHA256 = re.compile(r"[0-9a-f]{64}")


def document(bundle: Bundle) -> Secret:
    """In ASCII; always the same text for the same bundle."""
    certificate = bundle.certificate
    facts = {
        "name": bundle.name,
        "version": bundle.version,
        "fingerprint": certificate.fingerprint,
        "names": [name.value for name in certificate.identifiers],
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "fullchain": bundle.fullchain_pem,
        "cert": bundle.leaf_pem,
        "chain": bundle.chain_pem,
        "key": bundle.key_pem.reveal(),
    }
    return Secret(json.dumps(facts))


def told_fingerprint(text: str) -> str:
    """A fingerprint as somebody wrote it, also as ``openssl x509 -fingerprint`` does.

    Raises:
        ValueError: it is none.
    """
    plain = text.strip().rpartition("=")[2].replace(":", "").lower()
    if not _SHA256.fullmatch(plain):
        raise ValueError("no SHA-256 in hexadecimal")
    return plain
