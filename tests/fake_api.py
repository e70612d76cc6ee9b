"""A fake HTTP API on a free port: what those of all vendors need."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import dns.rdata

from certd.api import (
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
TOKEN = "a-token-that-is-allowed-everything"
READER = "a-token-that-may-only-read"
WRONG = "a-token-of-nobody"


@dataclass
class Request:
    method: str
    path: tuple[str, ...]  # its parts, below the API's address
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass
class Reply:
    status: int = 200
    body: Any = None  # sent as JSON; bytes as they are
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens once, to the next request that it fits, instead of or (``after``) besides."""

    fits: Callable[[Request], bool]
    reply: Reply | None  # None: the connection is closed without a word
    after: bool = False


class FakeAPI:
    """``answer`` is the vendor; everything else is what each of them needs."""

    prefix = ""  # of every path, as in the vendor's address

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                reply = fake._reply(self.command, self.path, self.headers, self.rfile.read(length))
                if reply is None:
                    return
                body = reply.body
                if body is not None and not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_response(reply.status)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def fault(
        self, reply: Reply | None, *, writing: bool | None = None, after: bool = False
    ) -> None:
        """Once: at the next write (True), the next read (False), or whatever is next."""
        self.faults.append(
            Fault(lambda asked: writing in (None, asked.method != "GET"), reply, after)
        )

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def published(self, name: str) -> list[str]:
        raise NotImplementedError

    def ttl(self, name: str) -> int:
        raise NotImplementedError

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.method != "GET"]

    def _reply(self, method: str, target: str, headers: Any, raw: bytes) -> Reply | None:
        parts = urlsplit(target)
        if not parts.path.startswith(f"{self.prefix}/"):
            return Reply(404, b"<html>no such page</html>")
        path = parts.path[len(self.prefix) :].removeprefix("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = json.loads(raw) if raw else None
        assert not raw or headers["Content-Type"] == "application/json"
        steps = tuple(unquote(step) for step in path.split("/"))
        request = Request(method, steps, query, headers, body)
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in self.faults if fault.fits(request)), None)
            if fault is None:
                return self.answer(request)
            self.faults.remove(fault)
            if fault.after:
                self.answer(request)
            return fault.reply


def page(items: list[Any], number: int, size: int) -> list[Any]:
    return items[(number - 1) * size : number * size]


def characters(text: str) -> str:
    """What these quoted character-strings say. Raises ValueError where a zone file would not do."""
    if not text.startswith('"'):
        raise ValueError("the text is not quoted")
    try:
        record: Any = dns.rdata.from_text("IN", "TXT", text)
    except dns.exception.DNSException as error:
        raise ValueError(str(error)) from None
    return b"".join(record.strings).decode()


def relative(name: str) -> str:
    return name.removesuffix(ZONE).rstrip(".") or "@"


def secret(token: str) -> SecretReference:
    return SecretReference("plain", Secret(token))


def challenge(
    value: str = FIRST, *, name: str = NAME, zone: str = ZONE, ttl: int = 60
) -> TxtRecord:
    return TxtRecord(zone, name, value, ttl)
