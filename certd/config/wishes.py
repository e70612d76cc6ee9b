"""PURE: what a string asks for: lifetimes, profiles, limits, chains, pins.

Each function takes the operator's text and gives a value, or raises ConfigError with
what, why and next, as it is to be shown.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import timedelta

from certd.budget import Limit
from certd.config.findings import shown
from certd.errors import ConfigError

_LIMIT = re.compile(r"(orders|domain|same|failures) ([0-9]{1,7})/([0-9]{1,4})([mhd])")
_RATE = re.compile(r"([0-9]{1,7})/([0-9]{1,4})([smhd])")
_SPAN = re.compile(r"([0-9]{1,5})([mhd])")
_PROFILE = re.compile(r"[!-~]{1,64}")
_DIGITS = re.compile(r"[0-9a-f]+")


def lifetime(text: str) -> timedelta:
    """How long a certificate is to be valid, as in ``7d``."""
    found = _SPAN.fullmatch(text)
    if not found or not int(found[1]):
        what = f"{shown(text)} is no lifetime"
        raise ConfigError(what, "so many minutes, hours or days", 'write it as "7d"')
    return _span(found[1], found[2])


def _span(count: str, unit: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[unit]: int(count)})


def profile(text: str) -> str:
    """The name of a CA's profile; CAs compare it letter by letter."""
    if _PROFILE.fullmatch(text):
        return text
    what = f"{shown(text)} is no name of a profile"
    todo = 'write it as the CA does, as in "shortlived"'
    raise ConfigError(what, "it is up to 64 characters, and no spaces", todo)


def limit(text: str) -> tuple[str, Limit]:
    """A CA's limit, as in ``orders 300/3h``: what is limited, and how much of it."""
    found = _LIMIT.fullmatch(text)
    if not found or not int(found[2]) or not int(found[3]):
        raise ConfigError(
            f"{shown(text)} is no limit",
            "orders, domain, same or failures; how many; in how many minutes, hours or days",
            'write it as "orders 300/3h"',
        )
    return found[1], Limit(int(found[2]), _span(found[3], found[4]))


def rate(text: str) -> Limit:
    """How much of something is allowed in how long, as in ``20/1m``."""
    found = _RATE.fullmatch(text)
    if not found or not int(found[1]) or not int(found[2]):
        what = f"{shown(text)} is no rate"
        why = "how many, in how many seconds, minutes, hours or days"
        raise ConfigError(what, why, 'write it as "20/1m"')
    return Limit(int(found[1]), _span(found[2], found[3]))


def chain(text: str) -> str:
    """A name in a certificate as it is, or a fingerprint as ``certd show`` writes it.

    Raises:
        ConfigError: it is neither.
    """
    digits = text.replace(":", "").lower()
    if _DIGITS.fullmatch(digits) and (":" in text or len(digits) >= 32):
        if len(digits) == 64:
            return digits
        what = f"{shown(text)} is no SHA-256 fingerprint"
        todo = "take that of `openssl x509 -noout -fingerprint -sha256`, or the certificate's name"
        raise ConfigError(what, f"it has {len(digits)} hexadecimal digits instead of 64", todo)
    if not text.strip() or not text.isprintable() or len(text) > 200:
        what = f"{shown(text)} is no name of a root or an intermediate"
        raise ConfigError(what, "", 'write it as its CA does: "ISRG Root X2"')
    return text.strip()


def pin(text: str) -> str:
    """A key's pin as ``certd show`` writes it: base64 of SHA-256, with or without its name."""
    bare = text.strip().removeprefix("pin-sha256=").strip('"')
    try:
        if len(base64.b64decode(bare, validate=True)) == 32:
            return bare
    except (binascii.Error, ValueError):
        pass
    what = f"{shown(text)} is no pin-sha256"
    raise ConfigError(what, "it is 32 bytes in base64", "take it from `certd show NAME`")
