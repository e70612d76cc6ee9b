"""What a web server answered: read by llhttp, up to a bound."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

MAX_REPLY = 64 * 1024  # bytes read of an answer; a right one has some hundred


class NoReply(Exception):
    """What came is no answer; the text says why."""


@dataclass(slots=True)
class Reply:
    """The last ``Location`` is the one. The body is cut where there is too much of it.

    Its methods are llhttp's events.
    """

    status: int = 0
    location: str | None = None
    body: bytearray = field(default_factory=bytearray)
    done: bool = False

    @property
    def phrase(self) -> str:
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


async def read(reader: asyncio.StreamReader) -> Reply:
    """One answer, to its end, or that of the connection.

    Raises:
        NoReply: there was none, or no HTTP.
        OSError: the connection broke.
    """
    reply, size = Reply(), 0
    parser = httptools.HttpResponseParser(reply)
    # RFC 9112 section 2.2 lets a recipient take a bare LF, and CAs do.
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
    try:
        while not reply.done and size <= MAX_REPLY and (data := await reader.read(16 * 1024)):
            size += len(data)
            parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # 101, which is a status like any other to us
    except httptools.HttpParserError as error:
        if not reply.done:
            raise NoReply("the answer is no HTTP") from error
    if size == 0:
        raise NoReply("hung up without an answer")
    reply.status = parser.get_status_code()
    if reply.status == 0:
        raise NoReply("hung up within the first line")
    return reply
