"""One client of a hub, after its handshake: requests one after the other, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from certd.complaints import Complaints
from certd.distribution import wording
from certd.distribution.stream import Stream, TooLong
from certd.errors import CertdError
from certd.model import Certificate

if TYPE_CHECKING:
    from certd.distribution.server import Stock

IDLE_SECONDS = 20.0  # for a request to come in whole, since the answer before it
ANSWER_SECONDS = 20.0  # for the client to take an answer

log = logging.getLogger(__name__)


class Refused(Exception):
    """A client with a good certificate that gets nothing; the text says which one, and why."""


class Desk(Protocol):
    """Where a conversation gets what it tells: the server."""

    @property
    def stock(self) -> Stock: ...

    @property
    def certificates(self) -> Mapping[str, str]: ...

    @property
    def changed(self) -> asyncio.Event: ...

    @property
    def complain(self) -> Complaints: ...


class Conversation:
    def __init__(self, desk: Desk, client: Certificate, stream: Stream) -> None:
        """``client`` is what it has shown: verified, but not yet known to be anybody's."""
        self.client = client
        self._desk = desk
        self._stream = stream

    async def run(self) -> None:
        """Until the client leaves, is silent for too long, or asks for what there is not."""
        with contextlib.suppress(TimeoutError, OSError):
            last = False
            while not last:
                answer, last = await self._next()
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._stream.write(answer)
            await self._stream.close()

    async def _next(self) -> tuple[bytes, bool]:
        """The answer to the next request, and whether it is the last one here."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                head = await self._stream.until(wording.END, wording.MOST_REQUEST)
        except TooLong:
            return wording.reply(404, last=True), True
        asked = wording.request(head)
        try:
            status, body = await self._answer(asked) if asked else (404, b"")
        except Refused as error:
            self._desk.complain("distribution: %s", error, about=self.client.spki_sha256)
            status, body = 403, b""
        except CertdError as error:  # the store's: its words are ours
            log.error("distribution: %s", error)
            raise ConnectionAbortedError from error
        last = asked is None or asked.last or status == 403
        return wording.reply(status, body, last=last), last

    async def _answer(self, asked: wording.Request) -> tuple[int, bytes]:
        who, names = await self._allowed()
        if asked.name is None:
            return await self._list(asked)
        if asked.name not in names:
            return 404, b""
        # From the store, and not as it was half a second ago.
        bundle = await asyncio.to_thread(self._desk.stock.bundle, asked.name)
        if bundle is None:
            return 404, b""
        if bundle.certificate.fingerprint == asked.since:
            return 304, b""
        log.info("%s: version %d is given to %s", bundle.name, bundle.version, who)
        return 200, wording.certificate_body(bundle)

    async def _list(self, asked: wording.Request) -> tuple[int, bytes]:
        """What the client may have, as soon as that is not what it knows; who it is, and what it
        may have, may change while it waits.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + asked.wait
        while True:
            changed = self._desk.changed  # taken first: what comes after is not missed
            _, names = await self._allowed()
            there = self._desk.certificates
            found = wording.listed({name: there[name] for name in names if name in there})
            if found.state != asked.since:
                return 200, wording.list_body(found)
            left = until - loop.time()
            if left <= 0:
                return 304, b""
            await self._wait(changed, left)

    async def _wait(self, changed: asyncio.Event, seconds: float) -> None:
        """For a change; not for a client that leaves, or that says anything meanwhile."""
        change = asyncio.ensure_future(changed.wait())
        word = asyncio.ensure_future(self._stream.more())
        try:
            await asyncio.wait((change, word), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if word.done():
                raise ConnectionAbortedError
        finally:
            for future in (change, word):
                future.cancel()
            await asyncio.gather(change, word, return_exceptions=True)

    async def _allowed(self) -> tuple[str, frozenset[str]]:
        """Who it is by now: tables are taken out, and certificates end.

        Raises:
            Refused: nobody any more.
        """
        if self.client.not_after <= datetime.now(UTC):
            raise ConnectionAbortedError  # the next handshake tells it why
        return await asyncio.to_thread(self._desk.stock.certificates_of, self.client)
