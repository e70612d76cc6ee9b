"""Looking at an HTTP-01 challenge as a CA will (RFC 8555 section 8.3)."""

from __future__ import annotations

import asyncio
import contextlib
import re
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

from certd.challenges.reaching import (
    Miss,
    Progress,
    Way,
    anyones,
    connect,
    look_up,
    reason,
)
from certd.challenges.reply import NoReply, Reply, read
from certd.challenges.resolving import Threads
from certd.challenges.wellknown import OWN_LOOK, PREFIX
from certd.errors import plain

MAX_REDIRECTS = 10  # as many as Let's Encrypt follows
SHOWN = 60  # characters of a wrong answer that are shown

_REDIRECTS = (301, 302, 303, 307, 308)
_TARGET = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[a-z0-9_.-]{1,254}")

_WAY = "let port 80 of the name's addresses lead to certd, or to the web server of webroot"
_OTHER = (
    "another server answers there: check the name's A and AAAA records, and whether what "
    "listens at port 80 is certd, or serves the folder of webroot"
)
_REDIRECT = "let the server on the way exempt /.well-known/acme-challenge/ from redirects"


class HTTPLook:
    """At one name."""

    _threads: Threads

    def __init__(self, way: Way, host: str, token: str, expected: bytes) -> None:
        self.way = way
        self.host = host
        self._token = token
        self._expected = expected
        self.progress = Progress(_WAY)

    @property
    def _doing(self) -> str:
        return self.progress.doing

    async def run(self, threads: Threads) -> None:
        """Follow it wherever it is.

        Raises:
            Miss: it is not to be seen.
        """
        self._threads = threads
        host = f"[{self.host}]" if ":" in self.host else self.host
        url, there = "", f"http://{host}{PREFIX}{self._token}"
        for _ in range(MAX_REDIRECTS + 1):
            parts = self._parts(url, there)
            reply = await self._ask(parts)
            if reply.status not in _REDIRECTS or reply.location is None:
                self._judge(reply)
                return
            url, there = parts.geturl(), reply.location
        why = (
            f"{self._doing}: more than {MAX_REDIRECTS} redirects, the last to {self._shown(there)}"
        )
        raise Miss(why, _REDIRECT)

    def _parts(self, url: str, there: str) -> SplitResult:
        """``there``, as it is said at ``url``, if a CA would go there too."""
        with contextlib.suppress(ValueError):
            parts = urlsplit(urljoin(url, there))
            host = parts.hostname or ""
            # Addresses only where the certificate is for one.
            named = host == self.host or (_HOST.fullmatch(host) and not _is_address(host))
            ports = {None, 80, 443, self.way.port, self.way.tls_port}
            if (
                named
                and parts.scheme in ("http", "https")
                and parts.port in ports
                and parts.username is None
            ):
                return parts
        why = f"{self._doing}: sent on to {self._shown(there)}, where a CA does not go"
        raise Miss(why, _REDIRECT)

    async def _ask(self, parts: SplitResult) -> Reply:
        host, secure = parts.hostname or "", parts.scheme == "https"
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        if not _TARGET.fullmatch(target):
            raise Miss(f"{self._doing}: sent on to a URL that is none", _REDIRECT)
        port = parts.port or (443 if secure else 80)
        port = {80: self.way.port, 443: self.way.tls_port}.get(port, port)
        progress = self.progress
        found = await look_up(host, self.way, self._threads, progress)
        progress.doing = self._shown(parts._replace(query="", fragment="").geturl())
        progress.step = _WAY
        tls, name = (anyones(), host) if secure else (None, None)
        reader, writer = await connect(found, port, progress, tls, name)
        try:
            request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            writer.write(request.encode() + OWN_LOOK + b"Accept: */*\r\nConnection: close\r\n\r\n")
            return await self._reply(reader)
        finally:
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        try:
            return await read(reader)
        except NoReply as error:
            raise Miss(f"{self._doing}: {error}", _OTHER) from error
        except OSError as error:
            raise Miss(f"{self._doing}: {reason(error)}", _WAY) from error

    def _judge(self, reply: Reply) -> None:
        if reply.status == HTTPStatus.OK and reply.body.rstrip() == self._expected:
            return
        why = f"{self._doing} answered {reply.phrase}"
        if reply.status == HTTPStatus.OK:
            why += f" with {self._shown(reply.body.decode('utf-8', 'replace'))!r}"
        raise Miss(why, _OTHER)

    def _shown(self, text: str) -> str:
        """A stranger's words, without ours in them."""
        text = text.replace(self._token, "…")
        return plain(text if len(text) <= SHOWN + len(PREFIX) else f"{text[:SHOWN]}…")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
