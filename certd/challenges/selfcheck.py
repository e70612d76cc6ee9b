"""Looking at one's own challenge before the CA does, the way the CA will (RFC 8555 section 8.3).

A CA counts failed validations; a look of one's own costs nothing, and can say more of what
went wrong. Neither tokens nor key authorizations are in what is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from os import strerror
from urllib.parse import SplitResult, urljoin, urlsplit

from certd.challenges.reply import NoReply, Reply, read
from certd.challenges.resolving import Threads, Unresolved, addresses
from certd.challenges.turns import Turns
from certd.challenges.wellknown import OWN_LOOK, PREFIX
from certd.errors import ChallengeError, plain

SECONDS = 8.0  # for a name, redirects included; a CA gives up after some ten
CONNECT_SECONDS = 3.0  # for one address, so that there is time for another
MAX_REDIRECTS = 10  # as many as Let's Encrypt follows
MAX_LOOKS = 256  # names looked at at once; others wait, and their time does not run
EACH = 8  # of one certificate: what leads into silence is mostly all that one has
SHOWN = 60  # characters of a wrong answer that are shown

_REDIRECTS = (301, 302, 303, 307, 308)
_TARGET = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[a-z0-9_.-]{1,254}")

_BLIND = (
    "if only this machine cannot see it, as behind some routers, set self_check = false for "
    "the certificate"
)
_NAME = "correct the name's A and AAAA records, or set resolver in [certd] to a server that knows"
_WAY = "let port 80 of the name's addresses lead to certd, or to the web server of webroot"
_OTHER = (
    "another server answers there: check the name's A and AAAA records, and whether what "
    "listens at port 80 is certd, or serves the folder of webroot"
)
_REDIRECT = "let the server on the way exempt /.well-known/acme-challenge/ from redirects"


@dataclass(frozen=True, slots=True)
class Way:
    """How a CA gets here: by which DNS server's word, to which ports, and how soon."""

    resolver: tuple[str, int] | None = None  # None: the system's
    port: int = 80  # where the first question is asked, and what http means in a redirect
    tls_port: int = 443
    seconds: float = SECONDS


class SelfCheck:
    """Looks at many names at once, in one daemon thread, which begins with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def begin(
        self, way: Way, owner: str, host: str, token: str, key_authorization: str
    ) -> Future[None]:
        """Look whether ``host``, a name or an address, answers this token rightly.

        ``owner`` is whose look it is: no more than ``EACH`` of one are under way. The
        future's exception is a ChallengeError, if it does not; once this has stopped, it is
        cancelled.
        """
        with self._lock:
            if self._stopped:
                never: Future[None] = Future()
                never.cancel()
                return never
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_debug(False)  # it would log key authorizations
                self._turns = Turns(MAX_LOOKS, EACH)
                self._threads = Threads()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="self-check", daemon=True
                )
                self._thread.start()
            look = _Look(way, host, token, key_authorization.encode(), self._threads)
            return asyncio.run_coroutine_threadsafe(self._in_turn(owner, look), self._loop)

    async def _in_turn(self, owner: str, look: _Look) -> None:
        async with self._turns.one(owner):
            await look.run()

    def stop(self) -> None:
        """Give up what is under way, for good. Without a look before it is nothing."""
        with self._lock:
            self._stopped = True
            loop, self._loop = self._loop, None
            thread = self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Miss(Exception):
    """It is not to be seen: why, and what to do."""

    def __init__(self, why: str, step: str) -> None:
        super().__init__(why)
        self.step = step


class _Look:
    """At one name."""

    def __init__(self, way: Way, host: str, token: str, expected: bytes, threads: Threads) -> None:
        self._way = way
        self._host = host
        self._token = token
        self._expected = expected
        self._threads = threads
        # What it waits for, and what may help, as they are told.
        self._doing, self._step = "", _WAY

    async def run(self) -> None:
        try:
            async with asyncio.timeout(self._way.seconds) as self._time:
                await self._follow()
            return
        except TimeoutError:
            miss = _Miss(f"{self._doing}: no answer within {self._way.seconds:g} s", self._step)
        except _Miss as error:
            miss = error
        raise ChallengeError(
            f"the challenge of {self._host} is not to be seen, so the CA was not told to look",
            str(miss),
            f"{miss.step}; {_BLIND}",
        )

    async def _follow(self) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
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
        raise _Miss(why, _REDIRECT)

    def _parts(self, url: str, there: str) -> SplitResult:
        """``there``, as it is said at ``url``, if a CA would go there too."""
        with contextlib.suppress(ValueError):
            parts = urlsplit(urljoin(url, there))
            host = parts.hostname or ""
            # Addresses only where the certificate is for one.
            named = host == self._host or (_HOST.fullmatch(host) and not _is_address(host))
            ports = {None, 80, 443, self._way.port, self._way.tls_port}
            if (
                named
                and parts.scheme in ("http", "https")
                and parts.port in ports
                and parts.username is None
            ):
                return parts
        why = f"{self._doing}: sent on to {self._shown(there)}, where a CA does not go"
        raise _Miss(why, _REDIRECT)

    async def _ask(self, parts: SplitResult) -> Reply:
        host, secure = parts.hostname or "", parts.scheme == "https"
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        if not _TARGET.fullmatch(target):
            raise _Miss(f"{self._doing}: sent on to a URL that is none", _REDIRECT)
        port = parts.port or (443 if secure else 80)
        port = {80: self._way.port, 443: self._way.tls_port}.get(port, port)
        self._doing, self._step = f"looking {host} up", _NAME
        try:
            found = await addresses(host, self._way.resolver, self._threads, self._time)
        except Unresolved as error:
            raise _Miss(f"{host} cannot be resolved: {plain(str(error))}", _NAME) from error
        self._doing = self._shown(parts._replace(query="", fragment="").geturl())
        self._step = _WAY
        reader, writer = await self._connect(found, port, host if secure else None)
        try:
            request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            writer.write(request.encode() + OWN_LOOK + b"Accept: */*\r\nConnection: close\r\n\r\n")
            return await self._reply(reader)
        finally:
            writer.transport.abort()

    async def _connect(
        self, found: list[str], port: int, name: str | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first address that takes a connection; ``name``: by TLS.

        Like Let's Encrypt: IPv6 first, and IPv4 only where there is no connection. A wrong
        answer by IPv6 is what the CA would see, whatever the other address says.
        """
        tls = _anyones() if name else None
        whys = []
        for address in found:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    opened = await asyncio.open_connection(
                        address, port, ssl=tls, server_hostname=name
                    )
            except (OSError, ValueError) as error:  # TimeoutError is one too
                whys.append(f"{address} port {port}: {_reason(error)}")
            else:
                self._doing = f"{self._doing} at {address} port {port}"
                return opened
        raise _Miss(f"{self._doing}: {', '.join(whys)}", _WAY)

    async def _reply(self, reader: asyncio.StreamReader) -> Reply:
        try:
            return await read(reader)
        except NoReply as error:
            raise _Miss(f"{self._doing}: {error}", _OTHER) from error
        except OSError as error:
            raise _Miss(f"{self._doing}: {_reason(error)}", _WAY) from error

    def _judge(self, reply: Reply) -> None:
        if reply.status == HTTPStatus.OK and reply.body.rstrip() == self._expected:
            return
        why = f"{self._doing} answered {reply.phrase}"
        if reply.status == HTTPStatus.OK:
            why += f" with {self._shown(reply.body.decode('utf-8', 'replace'))!r}"
        raise _Miss(why, _OTHER)

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


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    number = getattr(error, "errno", None)
    if isinstance(error, ssl.SSLError) or not number:
        return plain(str(error))
    return strerror(number)


def _anyones() -> ssl.SSLContext:
    """Whatever certificate is there: it is what is to be replaced, and CAs do not look."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
