"""What a CA shows (RFC 8555 section 7.1): order, authorization, challenge; read and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import josepy
from acme import challenges, messages

from certd.ca.net import Reply
from certd.ca.problem import MOST_SUBPROBLEMS, plain
from certd.errors import CAError
from certd.model import Identifier
from certd.react import Refusal
from certd.secrets import Secret

TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")  # RFC 8555 section 8.3: 128 bits, base64url

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CAOrder:
    """An order as the CA shows it (RFC 8555 section 7.1.3). ``retry_after`` is in seconds."""

    url: str
    status: str  # pending, ready, processing, valid, invalid
    identifiers: frozenset[Identifier]
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    error: str
    refusal: Refusal | None
    expires: datetime | None
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class CAChallenge:
    """A challenge (RFC 8555 section 7.1.5) with what it takes to answer it."""

    url: str
    type: str
    status: str  # pending, processing, valid, invalid
    token: str
    key_authorization: Secret
    error: str
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class CAAuthorization:
    """An authorization (RFC 8555 section 7.1.4). ``retry_after`` is in seconds."""

    identifier: Identifier
    wildcard: bool
    status: str  # pending, valid, invalid, deactivated, expired, revoked
    challenges: tuple[CAChallenge, ...]
    retry_after: float | None


def read_authorization(reply: Reply, key: josepy.JWK) -> CAAuthorization:
    """``key`` is the account's: the key authorizations are made with it."""
    body = _parse(messages.Authorization.from_json, reply)
    identifier = _identifier(reply, body.identifier)
    raw = reply.json().get("challenges") or ()
    return CAAuthorization(
        identifier,
        bool(body.wildcard),
        _status(body.status),
        tuple(_challenge(*pair, key) for pair in zip(body.challenges or (), raw, strict=False)),
        reply.retry_after,
    )


def read_order(url: str, reply: Reply) -> CAOrder:
    """``url`` is where the order is, which its own document does not say."""
    body = _parse(messages.Order.from_json, reply)
    authorizations = tuple(body.authorizations or ())
    if not body.finalize or not all(isinstance(item, str) for item in authorizations):
        raise CAError(f"the order {url} has no finalize URL or odd authorizations")
    return CAOrder(
        url,
        _status(body.status),
        frozenset(_identifier(reply, item) for item in body.identifiers or ()),
        authorizations,
        body.finalize,
        body.certificate,
        _error(body.error),
        _refusal(body.error),
        body.expires,
        reply.retry_after,
    )


def _challenge(
    body: messages.ChallengeBody, raw: Mapping[str, Any], key: josepy.JWK
) -> CAChallenge:
    token, authorization = "", ""
    if isinstance(body.chall, challenges.KeyAuthorizationChallenge):
        # The very text that the CA sent: ``body`` has what a lenient decoder made of it.
        token = raw.get("token", "")
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise CAError("the CA sent a challenge token that is not base64url of 128 bits")
        thumbprint = body.chall.key_authorization(key).rpartition(".")[2]
        authorization = f"{token}.{thumbprint}"
    error = _error(body.error)
    if authorization:
        # CAs tell what they expected: the key authorization, which is not to be logged.
        error = error.replace(authorization, "***")
    return CAChallenge(
        body.uri,
        body.chall.typ if hasattr(body.chall, "typ") else "",
        _status(body.status),
        token,
        Secret(authorization),
        error,
        _refusal(body.error),
    )


def _parse(parse: Callable[[dict[str, Any]], T], reply: Reply) -> T:
    try:
        return parse(reply.json())
    except (josepy.errors.Error, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CAError(
            f"{reply.url} answered with something that RFC 8555 does not allow",
            plain(str(error)),
            "nothing was lost: certd asks again; if it stays so, tell the CA",
        ) from error


def _identifier(reply: Reply, identifier: messages.Identifier | None) -> Identifier:
    if identifier is not None and not isinstance(identifier.value, str):
        raise CAError(f"{reply.url} speaks of an identifier that is no text")
    if identifier is not None and identifier.typ == messages.IDENTIFIER_FQDN:
        return Identifier("dns", identifier.value.lower())
    if identifier is not None and identifier.typ == messages.IDENTIFIER_IP:
        return Identifier("ip", identifier.value.lower())
    raise CAError(f"{reply.url} speaks of an identifier that is neither dns nor ip")


def _status(status: messages.Status | None) -> str:
    return status.name if status else ""


def _refusal(error: messages.Error | None) -> Refusal | None:
    """What the CA said of a validation; the order's own error says no more than that."""
    if error is None:
        return None
    kinds = tuple(_kind(sub.typ) for sub in error.subproblems or ())
    return Refusal(_kind(error.typ), subproblems=kinds, validation=True)


def _kind(typ: str) -> str:
    return typ.rpartition(":")[2]


def _error(error: messages.Error | None) -> str:
    if error is None:
        return ""
    text = plain(f"{error.detail or error.title or ''} ({error.typ.rpartition(':')[2]})")
    for sub in (error.subproblems or ())[:MOST_SUBPROBLEMS]:
        name = sub.identifier.value if sub.identifier else "?"
        text += plain(f"; {name}: {sub.detail} ({sub.typ.rpartition(':')[2]})")
    return text
