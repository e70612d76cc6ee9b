"""Names of things at a service, made of the names of certificates."""

from __future__ import annotations

import hashlib
import re

from certd.api import ConfigError
from certd_deploy.settings import PLACEHOLDER


def fitted(pattern: str, name: str, most: int, others: str = "a-z0-9-") -> str:
    """``pattern`` with the name of a certificate in it, of the characters ``others`` only.

    What had to be changed gets a piece of the name's digest, so that another name makes another.
    """
    if PLACEHOLDER not in pattern:
        return pattern
    room = most - len(pattern.replace(PLACEHOLDER, ""))
    plain = name if "A-Z" in others else name.lower()
    plain = re.sub(f"[^{others}]", "-", plain).strip("-")
    if plain != name or len(plain) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = f"{plain[: room - 9].strip('-')}-{digest}".strip("-")
    return pattern.replace(PLACEHOLDER, plain)


def check_pattern(pattern: str, form: str, most: int, says: str) -> None:
    """Of a setting with the name of a thing; there is room for ten characters of {name}.

    Raises:
        ConfigError: no certificate's name makes one of it.
    """
    tried = pattern.replace(PLACEHOLDER, "x" * 10)
    if len(tried) > most or not re.fullmatch(form, tried, re.ASCII):
        raise ConfigError(f'"{pattern}" is no name there', says, "correct it")
