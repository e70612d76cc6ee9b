"""The TLS-ALPN-01 responder (RFC 8737, RFC 8738): it listens while a challenge is open.

It faces the internet on port 443. It must never log a key authorization.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from certd.challenges.hello import server_name
from certd.challenges.listening import PortTaken, affordable_connections, open_sockets
from certd.challenges.tlsconnection import Answer, Connection
from certd.challenges.wellknown import checked
from certd.complaints import Complaints
from certd.errors import ChallengeError
from certd.model import Identifier

HANDSHAKE_SECONDS = 5.0  # from accept to the end; a CA speaks at once
MAX_CONNECTIONS = 1024  # open at once; at the bound the oldest makes room
MAX_LOOKUPS = 64  # names that wait for the store at once; invented ones past it are refused
LOOK_ROUND = 0.5  # seconds between looks whether it is still needed, or can have the port
ROUNDS = 5  # of the event loop, in which what it has begun comes to an end: it takes three
_WHO = "the TLS-ALPN-01 responder", "tls_alpn"  # as it is told why there is no port

log = logging.getLogger(__name__)

Addresses = Sequence[tuple[str, int]]


class TLSResponder:
    """Answers CAs, in a daemon thread that lives as long as it listens, or wants to.

    ``lookup`` gives the key authorization that the store has for an identifier, or None: what
    another process has published. ``journaled`` gives the tokens of all challenges that are
    open: what has been published before and is not among them is over. Both may block, and
    run in threads of their own. ``on_served`` is told of each token whose answer
    was given, on the responder's thread: it must be quick.
    """

    def __init__(
        self,
        lookup: Callable[[Identifier], str | None],
        journaled: Callable[[], Collection[str]],
        on_served: Callable[[str], None] | None = None,
        *,
        seconds: float = HANDSHAKE_SECONDS,
        connections: int | None = None,
    ) -> None:
        """``seconds`` is the time of a connection; ``connections`` bounds the open ones."""
        self.seconds = seconds
        self.served = on_served or (lambda token: None)
        self._lookup = lookup
        self._journaled = journaled
        self._cap = connections or min(MAX_CONNECTIONS, affordable_connections() // 4)
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}  # by SNI
        self._passed = False
        self._stopping = False
        self._addresses: Addresses = ()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of the thread alone:
        self._listeners: list[asyncio.Server] = []
        self._open: OrderedDict[Connection, None] = OrderedDict()  # oldest first
        self._lookups = 0
        self._complain = Complaints(log)

    def start(self, passed: Sequence[socket.socket]) -> None:
        """Listen on these until ``stop``: they are systemd's, and open whatever we do."""
        with self._lock:
            self._passed = True
            self._begin(list(passed))

    def publish(
        self,
        host: Identifier,
        token: str,
        key_authorization: str,
        addresses: Addresses,
        elsewhere: Callable[[], bool],
    ) -> None:
        """Answer for this identifier; listen at ``addresses``, if it does not yet.

        ``elsewhere``: whether who has the port answers from the same store. Then it is left to
        him, and taken over when he goes.

        Raises:
            PortTaken: he does not.
            ChallengeError: the token is malformed, or an address cannot be had.
        """
        checked(token)
        answer = Answer.to(host, key_authorization)
        with self._lock:
            self._addresses = addresses
            if self._thread is None:
                try:
                    sockets = open_sockets(addresses, *_WHO)
                except PortTaken:
                    if not elsewhere():
                        raise
                    sockets = []
                    log.info("another certd answers the CA's questions by TLS")
                self._begin(sockets)
            self._answers[server_name(host)] = answer

    def withdraw(self, token: str) -> None:
        """Forget it; without any, the port is given back."""
        with self._lock:
            for name, answer in list(self._answers.items()):
                if answer.token == token:
                    del self._answers[name]
            if not self._answers:
                self._wake()

    def stop(self) -> None:
        """Close everything. A second call, or one without a start, is fine."""
        with self._lock:
            thread, self._stopping = self._thread, True
            self._wake()
        if thread is not None:
            thread.join()

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._poke.set)

    # -- the thread --------------------------------------------------------------------------

    def _begin(self, sockets: list[socket.socket]) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_debug(False)  # it would print key authorizations
        self._loop.set_exception_handler(self._on_bug)
        self._poke = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, sockets), name="tls-alpn-01", daemon=True
        )
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop, sockets: list[socket.socket]) -> None:
        try:
            loop.run_until_complete(self._tend(sockets))
        except Exception as error:  # the boundary of the thread: what comes next begins another
            self._complain("the TLS-ALPN-01 responder ended: %s", type(error).__name__)
            with self._lock:
                self._listeners.clear()
                self._thread = self._loop = None
        finally:
            loop.close()

    async def _tend(self, sockets: list[socket.socket]) -> None:
        """Until nobody needs it any more; try for the port, while another has it."""
        await self._listen(sockets)
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), LOOK_ROUND)
            self._poke.clear()
            needed = self._stopping or await self._look_around()
            with self._lock:
                if self._stopping or not (needed or self._answers):
                    await self._end()
                    return
            if not self._listeners:
                with contextlib.suppress(ChallengeError):  # who has it answers for us
                    await self._listen(open_sockets(self._addresses, *_WHO))

    async def _listen(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for sock in sockets:
            server = await loop.create_server(lambda: Connection(self), sock=sock, backlog=512)
            self._listeners.append(server)

    async def _look_around(self) -> bool:
        """Forget what is over; whether there is anything for which to listen.

        Another process may have ended an order that was begun here, or count on us for one.
        """
        before = dict(self._answers)
        try:
            journaled = await asyncio.to_thread(self._journaled)
        except Exception as error:
            self._complain("the store could not be asked for challenges: %s", type(error).__name__)
            return bool(before) or self._passed
        with self._lock:
            for name, answer in before.items():
                if answer.token not in journaled and self._answers.get(name) is answer:
                    del self._answers[name]
        return bool(journaled) or self._passed

    async def _end(self) -> None:
        """With the lock held: whoever publishes next finds the port free, and nothing of ours."""
        loop = asyncio.get_running_loop()
        for server in self._listeners:
            for sock in server.sockets:
                loop.remove_reader(sock)
        for _ in range(ROUNDS):  # what was just accepted becomes a connection: else it leaks
            await asyncio.sleep(0)
        for server in self._listeners:
            server.close()
        self._listeners.clear()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._open:
            self._drop_oldest()
        for _ in range(ROUNDS):  # and is closed
            await asyncio.sleep(0)
        self._thread = self._loop = None

    # -- for its connections -----------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        if len(self._open) >= self._cap:
            self._drop_oldest()
        self._open[connection] = None

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def answer(self, name: str) -> Answer | None:
        return self._answers.get(name)

    async def stored(self, host: Identifier) -> Answer | None:
        if self._lookups >= MAX_LOOKUPS:
            return None
        self._lookups += 1
        try:
            found = await asyncio.to_thread(self._lookup, host)
        except Exception as error:
            # Its text may hold the key authorization.
            self._complain("the store could not be asked for a challenge: %s", type(error).__name__)
            return None
        finally:
            self._lookups -= 1
        return Answer.to(host, found) if found else None

    def _drop_oldest(self) -> None:
        connection, _ = self._open.popitem(last=False)
        connection.drop()

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # asyncio's own would print the arguments. The type must do.
        kind = type(context.get("exception")).__name__
        self._complain("the TLS-ALPN-01 responder failed: %s", kind)
