"""What passes between an ACME client and its CA, as tests see it and bend it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Pebble's paths; the first that matches.
_KINDS = {
    "directory": r"/dir$",
    "new-nonce": r"/nonce-plz",
    "new-account": r"/sign-me-up",
    "new-order": r"/order-plz",
    "order": r"/my-order/",
    "finalize": r"/finalize-order/",
    "authorization": r"/authZ/",
    "challenge": r"/chalZ/",
    "certificate": r"/certZ/",
    "revoke": r"/revoke-cert",
    "renewal-info": r".*renewalInfo/",
    "account": r"/my-account/",
    "key-change": r"/rollover-account-key",
}


def kind_of(path: str) -> str:
    """Which of RFC 8555's resources a path of Pebble's is; "other" if none."""
    return next((kind for kind, form in _KINDS.items() if re.match(form, path)), "other")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``then`` is called once it has been delivered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    then: Callable[[], None] | None = None

    @classmethod
    def of(cls, status: int, document: object, **headers: str) -> Reply:
        """JSON; ``Retry_After="3"`` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {"Content-Type": "application/json"}
        return cls(status, {**kind, **named}, json.dumps(document).encode())

    @classmethod
    def problem(cls, status: int, type: str, detail: str, **members: Any) -> Reply:
        """A problem document (RFC 8555 section 6.7)."""
        document = {"type": f"urn:ietf:params:acme:error:{type}", "detail": detail, **members}
        return cls.of(status, document, Content_Type="application/problem+json")

    def json(self) -> Any:
        return json.loads(self.body)

    def but(self, **changes: Any) -> Reply:
        """The same JSON object with these keys changed; None takes a key away."""
        document = {**self.json(), **changes}
        kept = {key: value for key, value in document.items() if value is not None}
        return replace(self, body=json.dumps(kept).encode())

    def with_header(self, name: str, value: str) -> Reply:
        others = {key: old for key, old in self.headers.items() if key.lower() != name.lower()}
        return replace(self, headers={**others, name: value})

    def header(self, name: str) -> str | None:
        found = (value for key, value in self.headers.items() if key.lower() == name.lower())
        return next(found, None)


@dataclass
class Exchange:
    """One request and what became of it; times are monotonic seconds."""

    number: int  # from 1
    method: str
    path: str
    kind: str
    payload: Any  # of the JWS, decoded; None for a POST-as-GET and without a JWS
    protected: Mapping[str, Any]  # the JWS's header; empty without one
    at: float
    upstream: Reply | None = None  # what the CA answered, if it was asked
    reply: Reply | None = None  # what was delivered; None: the connection was cut
    answered: float = 0.0  # when that was done; 0.0: not yet


Forward = Callable[[], Reply]
Act = Callable[[Exchange, Forward], Reply | None]


def read_jws(body: bytes) -> tuple[Any, Mapping[str, Any]]:
    """Payload and header of a flattened JWS, unverified; (None, {}) of anything else."""
    try:
        jws = json.loads(body)
        payload, protected = _decoded(jws["payload"]), _decoded(jws["protected"])
        return (json.loads(payload) if payload else None), json.loads(protected)
    except (ValueError, KeyError, TypeError):
        return None, {}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
