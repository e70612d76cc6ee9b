"""Looking at our own HTTP-01 token as the CA will, before it is asked to look.

A validation that fails at the CA costs one of few (Let's Encrypt: 5 an hour for each
name); one that fails here costs nothing and can be explained better. It follows
redirects by the rules of Let's Encrypt. It must never show a token or a key
authorization, whatever a server sends back.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from certd.challenges.fetching import Answer, NoAnswer, Place, default_port, fetch
from certd.challenges.wellknown import PREFIX, checked
from certd.errors import ChallengeError

MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 307, 308}  # the ones that Let's Encrypt follows
_LONGEST_HOST = 253  # characters of a DNS name
_SAFE = "/%:@!$&'()*+,;=~?"  # what stays as it is in a request line


def self_check(
    url_host: str,
    port: int,
    token: str,
    expected: str,
    deadline: float,
    connect: tuple[str, int] | None = None,
    *,
    tls_port: int = 443,
) -> None:
    """Return when ``http://URL_HOST/.well-known/acme-challenge/TOKEN`` shows ``expected``.

    ``deadline`` is in seconds, for all redirects together. ``connect`` is where the http
    requests go instead of what the names resolve to. Redirects may lead to ``port`` and
    ``tls_port`` only, as a CA allows 80 and 443 only; certificates are not verified, for
    there may be none yet.

    Raises:
        ChallengeError: it does not; with what came back instead.
    """
    host = f"[{url_host}]" if ":" in url_host else url_host
    start = f"http://{host}" if port == 80 else f"http://{host}:{port}"
    check = _Check(f"{start} does not show our HTTP-01 token", checked(token), expected)
    end = time.monotonic() + deadline
    url = f"{start}{PREFIX}{token}"
    for _ in range(MAX_REDIRECTS + 1):
        place = check.place(url, (port, tls_port))
        try:
            answer = fetch(place, end, connect if place.scheme == "http" else None)
        except NoAnswer as error:
            # A name may well be seen from outside only.
            local = "if only this machine cannot see it (NAT, split DNS): self_check = false"
            raise check.failed(error.why, f"{error.next}; {local}") from error
        if answer.status not in _REDIRECTS:
            check.judge(place, answer)
            return
        url = check.redirected(url, answer.location)
    raise check.failed(
        f"more than {MAX_REDIRECTS} redirects, the last to {check.shown(url)}",
        "end the loop, or leave /.well-known/acme-challenge/ out of the redirects",
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Check:
    what: str
    token: str
    expected: str

    def redirected(self, url: str, location: str) -> str:
        try:
            if location:
                return urljoin(url, location)
        except ValueError:
            pass  # such as an IPv6 address without its end
        raise self._astray(location)

    def place(self, url: str, ports: tuple[int, int]) -> Place:
        """Where a URL leads, if a CA would follow it there."""
        try:
            parts = urlsplit(url)
            port = parts.port or default_port(parts.scheme)
        except ValueError:
            raise self._astray(url) from None
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or port not in ports:
            raise self._astray(url)
        if not 0 < len(host) <= _LONGEST_HOST or not host.isascii() or not host.isprintable():
            raise self._astray(url)
        path = quote(parts.path or "/", safe=_SAFE)
        if parts.query:
            path += "?" + quote(parts.query, safe=_SAFE)
        return Place(parts.scheme, host, port, path)

    def judge(self, place: Place, answer: Answer) -> None:
        # A CA ignores white space at the end: web roots are often written by `echo`.
        body = answer.body.rstrip(b"\n\r\t ")
        if answer.status == 200 and body == self.expected.encode("ascii"):
            return
        server = f' from server "{self.shown(answer.server)}"' if answer.server else ""
        where = f"{server} at {place} ({answer.address})"
        if answer.status != 200:
            raise self.failed(
                f"{answer.status}{where}",
                "if another web server has this port, set webroot in [http] to the folder that "
                "it serves, or let it pass /.well-known/acme-challenge/ on to certd",
            )
        if re.fullmatch(rb"%b\.[A-Za-z0-9_-]{43}" % self.token.encode(), body):
            raise self.failed(
                f"the key authorization of another ACME account{where}",
                "two ACME clients answer for this name: end one of them, or wait until it is done",
            )
        kind = self.shown(answer.content_type) or "no content type"
        raise self.failed(
            f"another body of {len(answer.body)} bytes ({kind}){where}",
            "a page for everything hides the token: let /.well-known/acme-challenge/ reach certd",
        )

    def failed(self, why: str, step: str) -> ChallengeError:
        return ChallengeError(self.what, why, step)

    def _astray(self, url: str) -> ChallengeError:
        return self.failed(
            f"a redirect leads to {self.shown(url) or 'nowhere'}, where no CA follows",
            "redirect to http on port 80 or https on port 443 only",
        )

    def shown(self, text: str) -> str:
        """A server's words, fit for a terminal and a log, without what must not be shown."""
        for hidden in (self.expected, self.expected.rpartition(".")[2], self.token):
            text = text.replace(hidden, "…")
        return "".join(c if c.isprintable() else "?" for c in text[:100])
