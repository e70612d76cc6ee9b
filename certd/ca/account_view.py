"""An account as its CA shows it (RFC 8555 section 7.1.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import josepy

from certd.ca.keys import jwk, thumbprint
from certd.errors import plain
from certd.known import Account


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, and what the store knows beside it."""

    uri: str
    status: str  # valid, deactivated, revoked
    contact: tuple[str, ...]  # not every CA shows them
    thumbprint: str  # of the key that the CA takes (RFC 7638)
    external: str | None  # the key id of the customer's account that it is bound to
    terms: str | None  # URL of those that were accepted, as far as it is noted
    other_terms: str | None  # of those that the CA has now, if they are others


def read(document: dict[str, Any], account: Account, other_terms: str | None) -> View:
    """What the CA has sent of this account; anything may be missing there, or of another kind."""
    contacts = document.get("contact")
    shown = contacts if isinstance(contacts, list) else []
    return View(
        account.uri or "",
        plain(str(document.get("status"))),
        tuple(plain(text) for text in shown if isinstance(text, str)),
        thumbprint(jwk(account)),
        _key_id(document.get("externalAccountBinding")),
        account.terms,
        other_terms,
    )


def deactivated(account: Account) -> View:
    """What is known of one that was ended here."""
    return View(account.uri or "", "deactivated", (), thumbprint(jwk(account)), None, None, None)


def _key_id(binding: object) -> str | None:
    """What an external account binding (RFC 8555 section 7.3.4) is to."""
    try:
        protected = json.loads(josepy.decode_b64jose(binding["protected"]))  # type: ignore[index]
        return plain(str(protected["kid"]))
    except Exception:  # whatever a CA echoes there
        return None
