"""Challenges by records in DNS: where the record is, and what is in it. No I/O.

dns-01 is RFC 8555 section 8.4; dns-account-01 is draft-ietf-acme-dns-account-label, by which
several clients prove one name at the same time. By dns-persist-01, draft-ietf-acme-dns-persist,
the operator publishes a record once, which allows a CA to issue to an account.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from datetime import datetime

PREFIX = "_acme-challenge"
DNS_01 = "dns-01"
ACCOUNT = "dns-account-01"
PERSIST = "dns-persist-01"
_SECONDS = re.compile(r"[0-9]{1,18}")  # since 1970


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


def lasting_name(name: str) -> str:
    """Where the record of dns-persist-01 is."""
    return f"_validation-persist.{name.removeprefix('*.')}"


def lasting_value(issuer: str, account: str, *, wildcard: bool) -> str:
    """What is in it. ``issuer`` is a name that the CA goes by, ``account`` our account's URL."""
    return f"{issuer}; accounturi={account}" + ("; policy=wildcard" if wildcard else "")


def lasting_allows(
    value: str, issuers: Collection[str], account: str, now: datetime, *, wildcard: bool
) -> bool:
    """Whether a CA that goes by one of these names takes the value for this account's."""
    issuer, *parts = (part.strip() for part in value.split(";"))
    pairs = [
        (key.strip().lower(), text.strip())
        for key, _, text in (part.partition("=") for part in parts if part)
    ]
    parameters = dict(pairs)
    until = parameters.get("persistuntil")
    ended = until is not None and not (_SECONDS.fullmatch(until) and int(until) > now.timestamp())
    return (
        len(parameters) == len(pairs)  # what is said twice is not valid (section 4.1)
        and issuer.lower().rstrip(".") in {name.lower().rstrip(".") for name in issuers}
        and parameters.get("accounturi") == account
        and (not wildcard or parameters.get("policy", "").lower() == "wildcard")
        and not ended
    )
