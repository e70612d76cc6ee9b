"""One TLS connection of a server, in an event loop: read and written without a thread.

Not asyncio's own: that keeps a quarter of a megabyte for each, and does not say why it refuses
a client certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

_CHUNK = 1 << 14  # bytes read at once: a TLS record has no more
GOODBYE_SECONDS = 1.0  # for the other end to read what was said last


class TooLong(Exception):
    """More has come in than is read."""


class Stream:
    """The socket belongs to it; one task at a time uses it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._received = bytearray()

    async def handshake(self) -> bytes | None:
        """Returns the client's certificate, in DER.

        Raises:
            OSError: it is refused (ssl.SSLError), which it is told; or it has left.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError from None
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return self._tls.getpeercert(binary_form=True)

    async def until(self, end: bytes, most: int) -> bytes:
        """What comes in up to ``end``, and that too.

        Raises:
            TooLong: it is not among so many bytes.
            OSError: the other end has left.
        """
        while (at := self._received.find(end)) < 0:
            if len(self._received) > most:
                raise TooLong
            if not await self.more():
                raise ConnectionResetError
        if at > most:
            raise TooLong
        found = bytes(self._received[: at + len(end)])
        del self._received[: at + len(end)]
        return found

    async def more(self) -> bool:
        """Wait until something comes in; False: the other end has left."""
        while True:
            try:
                data = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                # What TLS itself has to answer (RFC 8446 section 4.6.3): it would heap up here.
                await self._flush()
                if not await self._feed():
                    return False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return False
            else:
                self._received += data
                return bool(data)

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def close(self) -> None:
        """Say good-bye, and let the other end read what it was told: a socket that is closed with
        something unread in it takes that back.
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                await self._flush()
                self._sock.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(self._sock, _CHUNK):
                    pass

    def drop(self) -> None:
        """Close it now. A second call is fine."""
        self._sock.close()

    async def _feed(self) -> bool:
        data = await self._loop.sock_recv(self._sock, _CHUNK)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        while data := self._outgoing.read(1 << 18):
            await self._loop.sock_sendall(self._sock, data)


def refusal(error: Exception) -> str:
    """Why there is no connection, without a word of the stranger's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its client certificate is not good: {error.verify_message}"
    reason = str(getattr(error, "reason", None) or type(error).__name__)
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it has no client certificate"
    if "_ALERT_" in reason:
        return f"it does not take the certificate that it is shown ({reason})"
    return reason
