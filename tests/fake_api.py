"""A vendor's HTTP API on a free port, with what can go wrong at any of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dns.exception
import dns.rdata

from certd.api import Secret, SecretReference, TxtRecord
from certd.contract import FIRST
from tests.http_server import Answer, Lost, Request, Response, serving

__all__ = ["FakeAPI", "Request", "Response"]

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
TOKEN = "a-token-that-is-allowed-everything"
READER = "a-token-that-may-only-read"
WRONG = "a-token-of-nobody"


@dataclass
class Fault:
    """What happens once, to the next request that it fits, instead of or (``after``) besides."""

    reply: Response | None  # None: the connection is closed without a word
    writing: bool | None = None
    after: bool = False
    skip: int = 0  # so many that it fits go well


class FakeAPI:
    """``answer`` is the vendor; everything else is what each of them needs."""

    prefix = ""  # of every path, as in the vendor's address

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.before: Answer | None = None  # a test's own, in place of ``answer`` and of faults
        self.url = ""
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with serving(self) as url:
            self.url = url + self.prefix
            yield

    def fault(
        self,
        reply: Response | None,
        *,
        writing: bool | None = None,
        after: bool = False,
        skip: int = 0,
    ) -> None:
        """Once: at the next write (True), the next read (False), or whatever is next."""
        self.faults.append(Fault(reply, writing, after, skip))

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def published(self, name: str) -> list[str]:
        raise NotImplementedError

    def ttl(self, name: str) -> int:
        raise NotImplementedError

    def is_write(self, request: Request) -> bool:
        return request.method != "GET"

    def concerns(self, request: Request) -> bool:
        """Whether it is one that faults are meant for: not a login elsewhere, say."""
        return True

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if self.is_write(request)]

    def __call__(self, request: Request) -> Response:
        if not request.path.startswith(f"{self.prefix}/"):
            return Response(404, b"<html>no such page</html>")
        request = replace(request, path=request.path.removeprefix(self.prefix))
        if not self.concerns(request):
            return self.answer(request)
        if self.before is not None:  # which may well ask this server again
            return self.before(request)
        with self._lock:
            self.requests.append(request)
            fault = self._fault(self.is_write(request))
            made = self.answer(request) if fault is None or fault.after else None
        if fault is not None:
            made = fault.reply
        if made is None:
            raise Lost
        return made

    def _fault(self, writing: bool) -> Fault | None:
        for fault in self.faults:
            if fault.writing in (None, writing):
                if not fault.skip:
                    self.faults.remove(fault)
                    return fault
                fault.skip -= 1
        return None


def text(status: int, words: str, kind: str = "text/html", **headers: str) -> Response:
    """An answer that is no JSON."""
    given: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, words.encode(), {"Content-Type": kind, **given})


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


def undone(fake: FakeAPI, times: int, status: int = 200) -> None:
    """Somebody else writes what was there before, each time at once."""
    for _ in range(times):
        fake.fault(Response(status, []), writing=True)
