"""One client of the TLS-ALPN-01 responder: refused by its ClientHello, or answered by TLS.

Nothing is computed for whoever is not a CA with a question about a name of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from certd.challenges.hello import (
    HANDSHAKE_FAILURE,
    MAX_HELLO,
    NO_APPLICATION_PROTOCOL,
    PROTOCOL,
    UNRECOGNIZED_NAME,
    Hello,
    NoHello,
    alert,
    identifier,
    read_hello,
)
from certd.model import Identifier
from certd.secrets import Secret, in_memory
from certd.x509 import challenge_leaf


@dataclass(frozen=True, slots=True)
class Answer:
    """To one challenge; its certificate has a key that is in memory only."""

    token: str
    context: ssl.SSLContext

    @classmethod
    def to(cls, host: Identifier, key_authorization: str) -> Answer:
        leaf, key = challenge_leaf(host, Secret(key_authorization), datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # RFC 8737 section 4 lets a CA ask by TLS 1.2 too; those that exist know 1.3.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([PROTOCOL])
        context.num_tickets = 0
        with in_memory(Secret(leaf + key.reveal())) as path:
            context.load_cert_chain(path)
        return cls(key_authorization.partition(".")[0], context)


class Desk(Protocol):
    """Where a connection asks and reports: the responder."""

    seconds: float

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def answer(self, name: str) -> Answer | None:
        """What this process has published for that SNI."""
        ...

    async def stored(self, host: Identifier) -> Answer | None:
        """What another process has published for it."""
        ...

    def served(self, token: str) -> None: ...


class Connection(asyncio.Protocol):
    """Its ``repr`` is Python's own, so that no log can show what it sent."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._received = b""
        self._hello: Hello | None = None
        self._tls: ssl.SSLObject | None = None
        self._token = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that of a stream
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._desk.seconds, transport.abort)
        self._desk.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._desk.closed(self)

    def drop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._tls is not None:
            self._incoming.write(data)
            self._shake_hands(self._tls)
            return
        self._received += data
        if self._hello is None:
            self._read()
        elif len(self._received) > MAX_HELLO:  # nothing is to be said while the store is asked
            self._refuse(HANDSHAKE_FAILURE)

    def _read(self) -> None:
        try:
            self._hello = read_hello(self._received)
        except NoHello:
            self._refuse(HANDSHAKE_FAILURE)
            return
        if self._hello is None:
            return
        if not self._hello.validates:
            self._refuse(NO_APPLICATION_PROTOCOL)
        elif answer := self._desk.answer(self._hello.server_name):
            self._give(answer)
        elif host := identifier(self._hello.server_name):
            self._task = asyncio.get_running_loop().create_task(self._ask(host))
        else:
            self._refuse(UNRECOGNIZED_NAME)

    async def _ask(self, host: Identifier) -> None:
        answer = await self._desk.stored(host)
        if self._transport.is_closing():
            return  # out of time, or it made room for another
        if answer is None:
            self._refuse(UNRECOGNIZED_NAME)
        else:
            self._give(answer)

    def _give(self, answer: Answer) -> None:
        self._token = answer.token
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = answer.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._received)
        self._shake_hands(self._tls)

    def _shake_hands(self, tls: ssl.SSLObject) -> None:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.write(self._outgoing.read())
            return
        except ssl.SSLError:  # it cannot do TLS 1.3, say; OpenSSL has written the alert
            pass
        else:
            self._desk.served(self._token)
            # Nothing else is exchanged (RFC 8737 section 3); its farewell is not waited for.
            with contextlib.suppress(ssl.SSLError):
                tls.unwrap()
        self._transport.write(self._outgoing.read())
        self._transport.close()

    def _refuse(self, description: int) -> None:
        self._transport.write(alert(description))
        self._transport.close()
