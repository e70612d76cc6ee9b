"""Certificate, chain and key in one text, for services that keep secrets, and read again."""

from __future__ import annotations

import json
import re

from certd.api import Bundle, ConfigError, Pair, Secret, render

FORMATS = ("combined", "key-first", "json")
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n.*?-----END \1-----\n?", re.DOTALL)


def check_format(form: str) -> None:
    if form not in FORMATS:
        raise ConfigError(f'"{form}" is no format here', "", f"write one of {', '.join(FORMATS)}")


def written(bundle: Bundle, form: str) -> str:
    if form != "json":
        return render(bundle, form).decode()
    parts = {
        "certificate": bundle.leaf_pem,
        "chain": bundle.chain_pem,
        "fullchain": bundle.fullchain_pem,
        "private_key": bundle.key_pem.reveal(),
    }
    return json.dumps(parts)


def read(text: str) -> Pair | None:
    """What was written in any of the forms; None: it is none of them."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        blocks = [(found[1], found[0]) for found in _BLOCK.finditer(text)]
        keys = [block for kind, block in blocks if kind.endswith("PRIVATE KEY")]
        certificates = "".join(block for kind, block in blocks if kind == "CERTIFICATE")
        return Pair(certificates, Secret(keys[0])) if keys and certificates else None
    if not isinstance(parts, dict):
        return None
    chain, key = parts.get("fullchain"), parts.get("private_key")
    return Pair(chain, Secret(key)) if isinstance(chain, str) and isinstance(key, str) else None
