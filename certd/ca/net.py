"""The way to a CA: HTTPS with size, time and origin limits, nonces, signed requests.

Knows nothing of orders. One ``Network`` serves one CA and is shared by all threads.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import josepy

from certd import __version__
from certd.ca.jws import signed
from certd.ca.problem import NoJSON, Problem, glimpse, problem_of, retry_after
from certd.ca.reading import WireError
from certd.ca.route import DIRECT, Route
from certd.ca.unanswered import unanswered
from certd.ca.wire import SILENCE, Wire
from certd.errors import CAError, ConfigError
from certd.silence import Silences

log = logging.getLogger(__name__)

USER_AGENT = f"certd/{__version__} (acme python)"
NONCE_TRIES = 6  # the first one and five more, as acme.md measured
NONCE_POOL = 64
WRONG_CLOCK = timedelta(minutes=10)  # of difference to the CA's, from which on it is said
_ASK_OPERATOR = "check the directory URL; if it is right, tell the CA"

_URL = re.compile(r"[!-~]{1,2048}")

_HEADERS = {"User-Agent": USER_AGENT, "Accept-Language": "en"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer, read to its end."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            NoJSON: it is none; the text says what it is instead.
            CAError: it is JSON of another kind.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise NoJSON(
                f"{self.url} did not answer with JSON", glimpse(self.body), _ASK_OPERATOR
            ) from error
        if not isinstance(value, dict):
            raise CAError(f"{self.url} answered with JSON that is no object", glimpse(self.body))
        return value

    @property
    def retry_after(self) -> float | None:
        return retry_after(self.headers.get("retry-after"), datetime.now(UTC))


class Network:
    """Requests to one CA. Only https, only origins that ``trust`` was told, no redirects.

    What keeps silent to everybody is left alone for a while (``certd.silence``): else
    each certificate that is wanted there would hold a thread until its own time is over.
    """

    def __init__(
        self,
        ca_bundle: Path | None,
        name: str = "NAME",
        silence: float = SILENCE,
        route: Route = DIRECT,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> None:
        """``name`` is the CA's, for what the operator is told; ``silence``, in seconds, is
        how long an answer is waited for; ``minimum`` the oldest TLS that is spoken.

        With ``ca_bundle``, its roots are trusted and no others: not the system's, and not
        those that the environment names (SSL_CERT_FILE).
        """
        self._name = name
        try:
            context = ssl.create_default_context(cafile=ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot read the roots in {ca_bundle}",
                str(error),
                "ca_bundle must name a PEM file with the root that the CA's own HTTPS leads to",
            ) from error
        context.minimum_version = minimum
        self._route = route
        self._wire = Wire(context, silence, route=route)
        self._silences = Silences()
        self._resources: tuple[str, ...] = ()
        self._origins: set[str] = set()
        # Last in, first out: the youngest nonce is the least likely to have expired.
        self._nonces: list[str] = []
        self._lock = threading.Lock()
        self.new_nonce_url = ""
        self.clock_ahead = timedelta(0)  # this machine's, of the CA's

    def trust(self, url: str) -> None:
        """Let requests go to the origin of this URL as well, if it has one."""
        if origin := _origin(url):
            self._origins.add(origin)

    def tell_apart(self, resources: Iterable[str]) -> None:
        """URLs of which one may be mute and another not; all else of the CA is one more.

        What follows such a URL (renewalInfo, RFC 9773 section 4.1) belongs to it.
        """
        self._resources = tuple(sorted(resources, key=len, reverse=True))

    def spare(self, url: str) -> None:
        """Raise Problem if it is left alone now, rather than let somebody queue up for it."""
        self._left_alone(url, self._silences.left(self._place(url)))

    def close(self) -> None:
        """Hang up; a later request connects anew."""
        self._wire.close()

    def check(self, url: object) -> None:
        """Raise CAError unless this is a URL, and requests may go there."""
        if _origin(url) not in self._origins:
            shown = repr(url[:200]) if isinstance(url, str) else "a URL that is no text"
            raise CAError(
                f"refused to ask {shown}",
                "the CA named a URL that is neither in its directory's origin nor https",
                _ASK_OPERATOR,
            )

    def get(self, url: str) -> Reply:
        reply = self._request("GET", url, None)
        self._note_date(reply.headers.get("date"))
        return reply

    def _note_date(self, text: str | None) -> None:
        """Date (RFC 9110 section 6.6.1) is the CA's clock. What is no date tells nothing."""
        try:
            date = parsedate_to_datetime(text or "")
        except (ValueError, OverflowError):
            return
        if date.tzinfo is None:
            return
        self.clock_ahead = datetime.now(UTC) - date
        if abs(self.clock_ahead) > WRONG_CLOCK:
            log.warning(
                "this machine's clock is %.0f minutes ahead of %s's: set it, as by NTP, or "
                "certificates are renewed at the wrong time",
                self.clock_ahead.total_seconds() / 60,
                self._name,
            )

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
            body = signed(payload, key, kid, self._nonce(), url)
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
        # Not by way of the pool, from which another thread could take it.
        nonce = reply.headers.get("replay-nonce")
        if not _is_nonce(nonce):
            raise CAError(
                f"{reply.url} gave no nonce", "the reply lacks Replay-Nonce", _ASK_OPERATOR
            )
        return nonce

    def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        self.check(url)
        place = self._place(url)
        begun, left = self._silences.begin(place)
        self._left_alone(url, left)
        try:
            answer = self._wire.exchange(method, url, body, {**_HEADERS, **(headers or {})})
        except WireError as error:
            if isinstance(error.__cause__, TimeoutError):
                self._silences.silent(place, url, begun)
            raise unanswered(url, error, self._name, self._route) from error
        self._silences.answered(place)
        if method != "HEAD":
            self._keep_nonce(answer.headers.get("replay-nonce"))
        if answer.status >= 300:
            raise problem_of(url, answer.status, answer.headers, answer.body)
        return Reply(url, answer.headers, answer.body)

    def _place(self, url: str) -> str:
        """Which silence it shares: that of its resource, or of all that is none."""
        return next((found for found in self._resources if url.startswith(found)), "")

    def _left_alone(self, url: str, seconds: float) -> None:
        if seconds:
            detail = "it has answered nobody for a while, and is left alone"
            raise Problem(url, None, "", detail, retry_after=seconds)

    def _keep_nonce(self, nonce: str | None) -> None:
        # What is no nonce is ignored: it is never worth losing the reply that it came with.
        if _is_nonce(nonce):
            with self._lock:
                self._nonces.append(nonce)
                del self._nonces[:-NONCE_POOL]


def _is_nonce(text: str | None) -> TypeGuard[str]:
    """Base64url (RFC 8555 section 6.5.1), and exactly what its own bytes encode to: only
    that survives the signing.
    """
    try:
        return (
            text is not None
            and 0 < len(text) <= 512
            and bool(josepy.encode_b64jose(josepy.decode_b64jose(text)) == text)
        )
    except (josepy.errors.Error, ValueError):
        return False


def is_url(text: object) -> TypeGuard[str]:
    """Has it only what a URL may have (RFC 3986 section 2)? Others can be neither asked
    for nor shown.
    """
    return isinstance(text, str) and bool(_URL.fullmatch(text))


def _origin(url: object) -> str | None:
    """Host and port of an https URL; None for anything else that JSON may have in its place."""
    if not is_url(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        return None
    return f"{parts.hostname}:{port}" if parts.scheme == "https" and parts.hostname else None
