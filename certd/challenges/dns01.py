"""Challenges by records in DNS: where the record is, and what is in it. No I/O.

dns-01 is RFC 8555 section 8.4; dns-account-01 is draft-ietf-acme-dns-account-label, by which
several clients prove one name at the same time.
"""

from __future__ import annotations

import base64
import hashlib

PREFIX = "_acme-challenge"
ACCOUNT = "dns-account-01"


def record_name(name: str, challenge: str, account: str) -> str:
    """Where the record of a DNS name, or of its wildcard, is. ``account`` is our account's URL."""
    name = f"{PREFIX}.{name.removeprefix('*.')}"
    if challenge != ACCOUNT:
        return name
    digest = hashlib.sha256(account.encode()).digest()[:10]
    return f"_{base64.b32encode(digest).decode().lower()}.{name}"


def record_value(key_authorization: str) -> str:
    """What is in it: 43 characters of base64url, which anybody may see."""
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
