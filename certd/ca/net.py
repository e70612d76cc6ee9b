"""The way to a CA: HTTPS with size, time and origin limits, nonces, signed requests, problems.

Knows nothing of orders. One ``Network`` serves one CA and is shared by all threads.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import josepy

from certd import __version__
from certd.ca.wire import Wire, WireError
from certd.errors import CAError, ConfigError

USER_AGENT = f"certd/{__version__} (acme python)"
NONCE_TRIES = 6  # the first one and five more, as acme.md measured
NONCE_POOL = 64
MOST_WORDS = 500  # characters of a CA's own words that are shown
MOST_SUBPROBLEMS = 20  # of a refusal, shown

_HEADERS = {"User-Agent": USER_AGENT, "Accept-Language": "en"}
_ERROR = "urn:ietf:params:acme:error:"


class Problem(CAError):
    """The CA said no (RFC 8555 section 6.7), or something in its place did not answer.

    ``status`` is None when there was no HTTP answer at all; ``type`` is the ACME error
    without its URN prefix, or "" when the answer was no problem document.
    ``retry_after`` is in seconds from now, as the server asked, or None.
    """

    def __init__(
        self,
        url: str,
        status: int | None,
        type: str,
        detail: str,
        *,
        retry_after: float | None = None,
        subproblems: tuple[Mapping[str, Any], ...] = (),
        instance: str | None = None,
    ) -> None:
        kind = f"{type or 'no problem document'}, HTTP {status}" if status else "no answer"
        super().__init__(f"the CA refused {url}" if status else f"could not ask {url}")
        self.why = plain(detail) + f" ({plain(kind)})"
        for sub in subproblems[:MOST_SUBPROBLEMS]:
            detail_of_one = str(sub.get("detail", sub.get("type", "")))
            self.why += f"; {plain(_identifier(sub))}: {plain(detail_of_one)}"
        if instance:
            self.next = f"see {plain(instance)}"
        self.url = url
        self.status = status
        self.type = type
        self.detail = detail
        self.retry_after = retry_after
        self.subproblems = subproblems
        self.instance = instance

    @property
    def transient(self) -> bool:
        """True when the same request may well succeed later, with nothing changed."""
        return (
            self.status is None
            or self.status >= 500
            or self.status == 429
            or self.type in ("badNonce", "rateLimited", "serverInternal")
        )


def plain(text: str) -> str:
    """A stranger's words as they may be shown: one line of bounded length, which no
    terminal obeys.
    """
    shown = "".join(char if char.isprintable() else " " for char in text[: MOST_WORDS + 1])
    return shown if len(shown) <= MOST_WORDS else f"{shown[:MOST_WORDS]}…"


def _identifier(subproblem: Mapping[str, Any]) -> str:
    identifier = subproblem.get("identifier")
    return str(identifier.get("value")) if isinstance(identifier, dict) else "?"


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer, read to its end."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            CAError: it is none; the text says what it is instead.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise CAError(
                f"{self.url} did not answer with JSON", _glimpse(self.body), _ASK_OPERATOR
            ) from error
        if not isinstance(value, dict):
            raise CAError(f"{self.url} answered with JSON that is no object", _glimpse(self.body))
        return value

    @property
    def retry_after(self) -> float | None:
        return retry_after(self.headers.get("retry-after"), datetime.now(UTC))


_ASK_OPERATOR = "check the directory URL; if it is right, tell the CA"


def _glimpse(body: bytes) -> str:
    """What the body is, in a few words, for an error message."""
    if not body:
        return "the body is empty"
    text = body[:200].decode("utf-8", "replace")
    kind = "an HTML page" if "<html" in text.lower() or "<!doctype" in text.lower() else "it"
    shown = "".join(char if char.isprintable() else " " for char in text[:80]).strip()
    return f"{kind} begins with {shown!r}"


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110 section 10.2.3).

    None when the header is absent or is neither; never negative, at most a day, so that
    no CA can stop a certificate for good.
    """
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        seconds = float(header[:9])
    else:
        try:
            instant = parsedate_to_datetime(header)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        try:
            seconds = (instant - now).total_seconds()
        except OverflowError:
            return None
    return min(max(seconds, 0.0), 86400.0)


class Network:
    """Requests to one CA. Only https, only origins that ``trust`` was told, no redirects."""

    def __init__(self, ca_bundle: Path | None) -> None:
        try:
            context = ssl.create_default_context(cafile=ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot read the roots in {ca_bundle}",
                str(error),
                "ca_bundle must name a PEM file with the root that the CA's own HTTPS leads to",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._wire = Wire(context)
        self._origins: set[str] = set()
        # Last in, first out: the youngest nonce is the least likely to have expired.
        self._nonces: list[str] = []
        self._lock = threading.Lock()
        self.new_nonce_url = ""

    def trust(self, url: str) -> None:
        """Let requests go to the origin of this URL as well."""
        self._origins.add(_origin(url))

    def close(self) -> None:
        """Hang up; a later request connects anew."""
        self._wire.close()

    def check(self, url: str) -> None:
        """Raise CAError unless requests may go there."""
        if _origin(url) not in self._origins:
            raise CAError(
                f"refused to ask {str(url)[:200]!r}",
                "the CA named a URL that is neither in its directory's origin nor https",
                _ASK_OPERATOR,
            )

    def get(self, url: str) -> Reply:
        return self._request("GET", url, None)

    def post(
        self, url: str, payload: bytes, key: josepy.JWK, kid: str | None, accept: str = ""
    ) -> Reply:
        """A signed POST (RFC 8555 section 6.2); an empty payload is a POST-as-GET.

        A rejected nonce is answered with the fresh one of the error, at once, five times.

        Raises:
            Problem: the CA refused, or there was no answer.
        """
        headers = {"Content-Type": "application/jose+json"}
        if accept:
            headers["Accept"] = accept
        for left in range(NONCE_TRIES - 1, -1, -1):
            body = _signed(payload, key, kid, self._nonce(), url)
            try:
                return self._request("POST", url, body, headers)
            except Problem as problem:
                if problem.type != "badNonce" or not left:
                    raise
        raise AssertionError("unreachable")

    def _nonce(self) -> str:
        with self._lock:
            if self._nonces:
                return self._nonces.pop()
        reply = self._request("HEAD", self.new_nonce_url, None)
        with self._lock:
            if self._nonces:
                return self._nonces.pop()
        raise CAError(f"{reply.url} gave no nonce", "the reply lacks Replay-Nonce", _ASK_OPERATOR)

    def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        self.check(url)
        try:
            answer = self._wire.exchange(method, url, body, {**_HEADERS, **(headers or {})})
        except WireError as error:
            raise Problem(url, None, "", str(error)) from error
        self._keep_nonce(answer.headers.get("replay-nonce"))
        if answer.status >= 300:
            raise _problem(url, answer.status, answer.headers, answer.body)
        return Reply(url, answer.headers, answer.body)

    def _keep_nonce(self, nonce: str | None) -> None:
        # RFC 8555 section 6.5.1: base64url; anything else is ignored, as a nonce is never
        # worth losing the reply that it came with.
        if nonce and len(nonce) <= 512 and _is_base64url(nonce):
            with self._lock:
                self._nonces.append(nonce)
                del self._nonces[:-NONCE_POOL]


def _is_base64url(text: str) -> bool:
    """Whether it is exactly what its own bytes encode to: only that survives the signing."""
    try:
        return bool(josepy.encode_b64jose(josepy.decode_b64jose(text)) == text)
    except (josepy.errors.Error, ValueError):
        return False


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except (ValueError, TypeError, AttributeError):  # JSON may have anything in a URL's place
        return "not a URL"
    return f"{parts.hostname}:{port}" if parts.scheme == "https" else f"not https: {url[:80]}"


def _signed(payload: bytes, key: josepy.JWK, kid: str | None, nonce: str, url: str) -> bytes:
    """A flattened JWS (RFC 8555 section 6.2); without an account yet, with the public key."""
    header: dict[str, Any] = {"alg": "ES256", "nonce": nonce, "url": url}
    if kid is None:
        header["jwk"] = key.public_key().to_json()
    else:
        header["kid"] = kid
    protected = josepy.encode_b64jose(json.dumps(header, separators=(",", ":")).encode())
    text = josepy.encode_b64jose(payload)
    signature = josepy.ES256.sign(key.key, f"{protected}.{text}".encode())
    return json.dumps(
        {
            "protected": protected,
            "payload": text,
            "signature": josepy.encode_b64jose(signature),
        },
        separators=(",", ":"),
    ).encode()


def _problem(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    wait = retry_after(headers.get("retry-after"), datetime.now(UTC))
    if status < 400:
        return Problem(url, status, "", "it redirects, which an ACME server must not")
    try:
        document = json.loads(body)
        kind = document.get("type", "")
        subproblems = document.get("subproblems") or ()
        instance = document.get("instance")
        return Problem(
            url,
            status,
            kind.removeprefix(_ERROR),
            str(document.get("detail") or document.get("title") or "no detail given"),
            retry_after=wait,
            subproblems=tuple(sub for sub in subproblems if isinstance(sub, dict)),
            instance=instance if isinstance(instance, str) else None,
        )
    except (ValueError, AttributeError, TypeError, RecursionError):
        return Problem(url, status, "", _glimpse(body), retry_after=wait)
