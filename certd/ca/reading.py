"""One HTTP answer as it comes in, read by llhttp (``httptools``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httptools


class WireError(Exception):
    """There was no whole answer; the text says why, and ``next`` what to do, if that is known."""

    def __init__(self, why: str, next: str = "") -> None:
        super().__init__(why)
        self.next = next


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case names (of several the last, of Link all), the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reading:
    """An answer as it comes in; the ``on_`` methods are called by the parser."""

    def __init__(self, head_only: bool) -> None:
        """``head_only``: the answer to a HEAD, which has no body whatever its headers say."""
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._unended = False  # the body ends where the connection does
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.done = False
        self.keep = False  # whether another request may follow on this connection

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keep = False
            if not self.done:
                raise WireError(f"its answer is not HTTP ({error})"[:200]) from error

    def end(self) -> None:
        """The server has hung up, and has said so."""
        if not self._unended:
            raise self.cut()
        self.done = True

    def cut(self) -> WireError:
        """What it is when the connection ends here: no whole answer (RFC 9112 section 9.8)."""
        return WireError(
            "it hung up in the middle of its answer"
            if self._begun
            else "it closed the connection without an answer"
        )

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # what follows the body is no header (RFC 9110 section 6.5.1)
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            # Several of these mean the same as one with commas (RFC 9110 section 5.3).
            before = self.headers.get(key, "") if key == "link" else ""
            self.headers[key] = f"{before}, {text}" if before else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.done or status < 200:  # 1xx: the answer is still to come
            return
        self.status = status
        bodiless = self._head_only or status in (204, 304)
        measured = {"content-length", "transfer-encoding"} & self.headers.keys()
        self._unended = not bodiless and not measured
        self.keep = not self._unended and self._parser.should_keep_alive()
        self.done = bodiless

    def on_body(self, data: bytes) -> None:
        if not self.done:
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.done = True
        else:
            self.headers.clear()

    def on_message_begin(self) -> None:
        self._begun = True
        if self.done:
            self.keep = False  # more than was asked for: whose answer would that be?
