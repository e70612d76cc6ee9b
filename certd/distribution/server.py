"""The hub's side of distribution: a thread that answers clients with good certificates.

It may face a hostile network. Nothing is read from whoever has not shown a client certificate
in a TLS 1.3 handshake, and each connection gets little time and little memory. It never logs
a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from certd import x509
from certd.challenges.listening import affordable_connections
from certd.complaints import Complaints
from certd.distribution.session import Conversation
from certd.distribution.stream import Stream, refusal
from certd.errors import CertdError
from certd.model import Bundle, Certificate
from certd.secrets import Secret, in_memory

HANDSHAKE_SECONDS = 5.0  # from accept to the client's certificate
MAX_STRANGERS = 256  # connections that have not shown one yet; past it the oldest makes room,
# but has so many seconds before: a thousand good clients come at once when what they all have is
# renewed, or this was away. The kernel keeps the rest waiting meanwhile.
A_MOMENT = 2.0
MAX_CONNECTIONS = 4096
# Connections of one client, past which the oldest makes room. One that follows has one that
# waits, and one for each thread that fetches: eight, and up to four times as many where they hang.
MAX_OF_ONE = 64
LOOK_ROUND = 0.5  # seconds between looks at the store, which other processes write to as well
LOOK_SHARE = 20  # of the time at most is spent on that: one part in so many
LOOK_MOST = 5.0  # seconds: but a moment in which the store was slow makes nobody blind
LOOK_AGAIN = 0.01  # seconds between looks whether there is room for one more
STARVED_SECONDS = 0.2  # pause in accepting when the machine has no descriptor left
THREADS = 2  # that ask the store

log = logging.getLogger(__name__)


class Stock(Protocol):
    """What there is to be given, and to whom: the store and the configuration, as of now.

    All of it may block, and is called in threads.
    """

    def fingerprints(self) -> Mapping[str, str]:
        """Those of the current versions."""
        ...

    def certificates_of(self, client: Certificate) -> tuple[str, frozenset[str]]:
        """The client's name here, and the certificates that it may have.

        Raises:
            Refused: it may have none.
        """
        ...

    def bundle(self, name: str) -> Bundle | None:
        """The current version of it."""
        ...

    def shown(self) -> str:
        """The name of the certificate that clients are shown."""
        ...

    def roots(self) -> str:
        """Those that client certificates must lead to, in PEM; "" where there are none yet."""
        ...


def server_context(bundle: Bundle, roots_pem: str) -> ssl.SSLContext:
    """For connections that begin while these are what there is.

    Raises:
        ssl.SSLError, ValueError: they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # A session that is taken up again would bring the certificate of before with it.
    context.num_tickets = 0
    context.load_verify_locations(cadata=roots_pem)
    with in_memory(Secret(bundle.fullchain_pem + bundle.key_pem.reveal())) as path:
        context.load_cert_chain(path)
    return context


class Server:
    """``start`` and ``stop`` are for once each; ``look_again`` is for any thread in between."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.certificates: Mapping[str, str] = {}  # name to fingerprint, of all that there are
        self.changed = asyncio.Event()  # replaced when it is set
        self._context: ssl.SSLContext | None = None
        self._made_of: tuple[str, str] = ("", "")
        self._strangers: OrderedDict[asyncio.Task[None], float] = OrderedDict()  # oldest first
        self._known: dict[str, OrderedDict[asyncio.Task[None], None]] = {}
        self.complain = Complaints(log)
        self._cap = min(MAX_CONNECTIONS, affordable_connections() // 2)
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # it would print what was called, and with what
        self._loop.set_exception_handler(self._on_bug)
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, "distribution-look"))
        self._listeners: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="distribution", daemon=True)

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these listening sockets, which belong to the server from now on."""
        self._listeners = list(sockets)
        self._thread.start()

    def look_again(self) -> None:
        """The configuration has changed: who waits is looked at again."""
        with contextlib.suppress(RuntimeError):  # it has stopped
            self._loop.call_soon_threadsafe(self.wake)

    def stop(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end)
            self._thread.join()

    # -- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self._loop
        try:
            self._main = loop.create_task(self._tend())
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._main)
            loop.run_until_complete(_cancel_all())
        finally:
            for listener in self._listeners:
                listener.close()
            loop.close()

    def _end(self) -> None:
        self._main.cancel()

    async def _tend(self) -> None:
        """Look at the store again and again; accept once there is something to be shown."""
        for listener in self._listeners:
            listener.setblocking(False)
        accepting = [self._loop.create_task(self._accept(one)) for one in self._listeners]
        try:
            while True:
                lasted = 0.0
                try:
                    lasted = await asyncio.to_thread(self._look)
                except Exception as error:
                    # The store's own text may hold anything; a CertdError's does not.
                    why = str(error) if isinstance(error, CertdError) else type(error).__name__
                    self.complain("distribution: nothing new can be told: %s", why)
                await asyncio.sleep(min(max(LOOK_ROUND, lasted * LOOK_SHARE), LOOK_MOST))
        finally:
            for task in accepting:
                task.cancel()

    def _look(self) -> float:
        """Returns the seconds for which the store was busy with it."""
        begun = time.monotonic()
        found = self.stock.fingerprints()
        lasted = time.monotonic() - begun
        if found != self.certificates:
            self.certificates = found
            self.look_again()
        shown, roots = found.get(self.stock.shown(), ""), self.stock.roots()
        if (shown, roots) == self._made_of:
            return lasted
        others = roots != self._made_of[1]
        self._context = self._made(shown, roots, None if others else self._context)
        if others:  # whoever is here has shown, or is about to, what was good by those of before
            self._loop.call_soon_threadsafe(self._drop_everybody)
        return lasted

    def _made(self, shown: str, roots: str, before: ssl.SSLContext | None) -> ssl.SSLContext | None:
        bundle = self.stock.bundle(self.stock.shown()) if shown else None
        self._made_of = (shown, roots)
        if bundle is None or not roots:
            lacking = "root of the clients' CA" if bundle else f"version of {self.stock.shown()}"
            log.warning("distribution: nobody can be answered: there is no %s yet", lacking)
            return None
        try:
            return server_context(bundle, roots)
        except (OSError, ValueError) as error:
            what = f"version {bundle.version} of {bundle.name}, or the roots of the clients' CA"
            log.error("distribution: %s cannot be used: %s", what, error)
            return before

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            while self._full() and (left := self._a_moment_left()) > 0:
                await asyncio.sleep(min(left, LOOK_AGAIN))
            try:
                sock, address = await self._loop.sock_accept(listener)
            except OSError as error:
                self.complain("distribution: cannot accept connections: %s", error.strerror)
                self._drop_oldest()
                await asyncio.sleep(STARVED_SECONDS)
                continue
            context, full = self._context, self._full()
            if context is None or (full and not self._strangers):
                if full:
                    self.complain("distribution: no more than %d connections are taken", self._cap)
                sock.close()
                continue
            if full:
                self._drop_oldest()
            task = self._loop.create_task(self._serve(sock, str(address[0]), context))
            self._strangers[task] = self._loop.time()
            task.add_done_callback(functools.partial(self._gone, sock))

    def _full(self) -> bool:
        everybody = len(self._strangers) + sum(map(len, self._known.values()))
        return len(self._strangers) >= MAX_STRANGERS or everybody >= self._cap

    def _a_moment_left(self) -> float:
        """Seconds until the oldest stranger has to make room."""
        begun = next(iter(self._strangers.values()), 0.0)
        return begun + A_MOMENT - self._loop.time()

    def _drop_oldest(self) -> None:
        if self._strangers:
            self._strangers.popitem(last=False)[0].cancel()

    def _drop_everybody(self) -> None:
        for task in [*self._strangers, *(task for mine in self._known.values() for task in mine)]:
            task.cancel()

    def _gone(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()  # one that was dropped before it began has nobody else to do so
        self._strangers.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.complain("distribution: a connection failed: %s", type(error).__name__)

    # -- its connections ---------------------------------------------------------------------

    async def _serve(self, sock: socket.socket, host: str, context: ssl.SSLContext) -> None:
        stream = Stream(sock, context)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                shown = await stream.handshake()
            client = x509.facts_of_der(shown) if shown else None
            if client is not None:
                await self._converse(Conversation(self, client, stream))
        except (OSError, CertdError) as error:  # a stranger; ssl.SSLError and a time-out are some
            self.complain("distribution: a client at %s is not let in: %s", host, refusal(error))
            await stream.close()
        finally:
            stream.drop()

    async def _converse(self, conversation: Conversation) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this runs in one
        self._strangers.pop(task, None)
        whose = conversation.client.spki_sha256
        mine = self._known.setdefault(whose, OrderedDict())
        if len(mine) >= MAX_OF_ONE:
            mine.popitem(last=False)[0].cancel()
        mine[task] = None
        try:
            await conversation.run()
        finally:
            mine.pop(task, None)
            if not mine and self._known.get(whose) is mine:
                del self._known[whose]

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        # asyncio's own would print the arguments. The type must do.
        kind = type(context.get("exception")).__name__
        self.complain("distribution: a connection failed: %s", kind)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
