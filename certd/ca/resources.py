"""What a CA shows (RFC 8555 section 7.1): order, authorization, challenge; read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin

import josepy
from acme import challenges, messages
from cryptography.hazmat.primitives import hashes

from certd.ca.net import Reply, is_url
from certd.ca.problem import MOST_SUBPROBLEMS
from certd.errors import CAError, plain
from certd.model import Identifier
from certd.react import Refusal
from certd.secrets import Secret

_LINK = re.compile(r"<([^<>]*)>([^<]*)")  # a target and its parameters (RFC 8288 section 3)
_REL = re.compile(r';\s*rel\s*=\s*"?([^";,]+)', re.IGNORECASE)
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")  # RFC 8555 section 8.3: 128 bits, base64url

messages.Status("expired")  # of an authorization (RFC 8555 section 7.1.6); acme lacks it

# By key authorization, and not known to ``acme``: RFC 8737, draft-ietf-acme-dns-account-label.
_FORGOTTEN = ("tls-alpn-01", "dns-account-01")
_NAME = re.compile(r"[0-9A-Za-z.:*_-]{1,253}")  # what is in none of ours is in no error either
_MEMBER = re.compile(r"^Deserialization error: Could not decode '(\w{1,40})'")


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
    account: str = ""  # URL of ours, which some challenges are about
    issuers: tuple[str, ...] = ()  # of dns-persist-01: the names by which a record allows this CA


@dataclass(frozen=True, slots=True)
class CAAuthorization:
    """An authorization (RFC 8555 section 7.1.4). ``retry_after`` is in seconds."""

    identifier: Identifier
    wildcard: bool
    status: str  # pending, valid, invalid, deactivated, expired, revoked
    challenges: tuple[CAChallenge, ...]
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Download:
    """A chain as it was sent, and the URLs of others for the same leaf."""

    pem: str
    alternates: tuple[str, ...]


def alternates(reply: Reply) -> tuple[str, ...]:
    """Where other chains are: the Link headers with rel="alternate" (RFC 8288)."""
    found = []
    for target, parameters in _LINK.findall(reply.headers.get("link", "")):
        relations = _REL.search(parameters)
        if relations and "alternate" in relations[1].lower().split():
            found.append(urljoin(reply.url, target))
    return tuple(url for url in dict.fromkeys(found) if is_url(url))


def read_authorization(reply: Reply, key: josepy.JWK, account: str) -> CAAuthorization:
    """``key`` is the account's: the key authorizations are made with it. ``account``: its URL."""
    with _distrust(reply):
        body = messages.Authorization.from_json(reply.json())
        raw = reply.json().get("challenges") or ()
        return CAAuthorization(
            _identifier(body.identifier),
            bool(body.wildcard),
            _status(body.status),
            tuple(
                _challenge(*pair, key, account)
                for pair in zip(body.challenges or (), raw, strict=True)
            ),
            reply.retry_after,
        )


def read_order(url: str, reply: Reply) -> CAOrder:
    """``url`` is where the order is, which its own document does not say."""
    with _distrust(reply):
        body = messages.Order.from_json(reply.json())
        return CAOrder(
            url,
            _status(body.status),
            frozenset(map(_identifier, body.identifiers or ())),
            tuple(_url(item, "authorizations") for item in body.authorizations or ()),
            _url(body.finalize, "finalize"),
            None if body.certificate is None else _url(body.certificate, "certificate"),
            _error(body.error),
            _refusal(body.error),
            body.expires,
            reply.retry_after,
        )


def _challenge(
    body: messages.ChallengeBody, raw: Mapping[str, Any], key: josepy.JWK, account: str
) -> CAChallenge:
    token, authorization = "", ""
    if isinstance(body.chall, challenges.KeyAuthorizationChallenge) or raw["type"] in _FORGOTTEN:
        # The very text that the CA sent: ``body`` has what a lenient decoder made of it.
        token = raw.get("token", "")
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise CAError("the CA sent a challenge token that is not base64url of 128 bits")
        thumbprint = josepy.b64encode(key.thumbprint(hash_function=hashes.SHA256)).decode()
        authorization = f"{token}.{thumbprint}"
    error = _error(body.error)
    if authorization:
        # CAs tell what they expected: the key authorization, which is not to be logged.
        error = error.replace(authorization, "***")
    return CAChallenge(
        _url(body.uri, "url"),
        # ``body`` has no type where ``acme`` does not know it.
        plain(raw["type"]),
        _status(body.status),
        token,
        Secret(authorization),
        error,
        _refusal(body.error),
        account,
        tuple(plain(name) for name in raw.get("issuer-domain-names") or () if name),
    )


@contextmanager
def _distrust(reply: Reply) -> Iterator[None]:
    """Whatever ``acme`` and we make of a hostile document becomes a CAError."""
    try:
        yield
    except CAError:
        raise
    # Not a list of types: a decoder fails as it likes, and a text that is expected may be
    # anything, such as lists in lists that no one can print.
    except Exception as error:
        raise CAError(
            f"{reply.url} answered with something that RFC 8555 does not allow",
            _reason(error),
            "nothing was lost: certd asks again; if it stays so, tell the CA",
        ) from error


def _reason(error: BaseException) -> str:
    """Which members, from the outermost, and what is wrong with the innermost of them.

    The decoder's own words begin with the whole document.
    """
    members = ""
    while isinstance(error, josepy.errors.Error) and (found := _MEMBER.search(str(error))):
        members += f"{found[1]}: "
        if error.__context__ is None:
            break
        error = error.__context__
    return plain(f"{members}{error}")


def _identifier(identifier: messages.Identifier | None) -> Identifier:
    if identifier is None or not _NAME.fullmatch(identifier.value):
        raise ValueError("an identifier that is neither a name nor an address")
    if identifier.typ == messages.IDENTIFIER_FQDN:
        return Identifier("dns", identifier.value.lower())
    if identifier.typ == messages.IDENTIFIER_IP:
        # In the one form that compares, however the CA writes it (RFC 8738 section 3).
        return Identifier("ip", str(ip_address(identifier.value)))
    raise ValueError("an identifier that is neither dns nor ip")


def _url(text: object, member: str) -> str:
    """One that can be asked for; whether it may be is asked when it is."""
    if not is_url(text):
        raise ValueError(f"{member}: no URL")
    return text


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
