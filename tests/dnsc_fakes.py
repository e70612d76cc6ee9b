"""A fake HTTP API on a free port, and the tests that each provider with such an API must pass."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import dns.rdata
import pytest

from certd.api import (
    DNSProvider,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account, DNSProviderContract

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


class HTTPProviderContract(DNSProviderContract):
    """Beside the contract: what goes wrong between here and the API.

    A subclass has the fixtures ``fake`` and ``provider`` (a function from a token to a provider).
    """

    minimum_ttl: int  # seconds
    account_zones: frozenset[str]

    @pytest.fixture
    def account(self, fake: Any, provider: Callable[[str], DNSProvider]) -> Account:
        denied = provider(WRONG)
        return Account(provider(TOKEN), ZONE, fake.published, denied, (TOKEN, WRONG))

    @pytest.fixture(autouse=True)
    def _no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    @pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
    @pytest.mark.parametrize(
        ("reply", "wait"),
        [
            pytest.param(Reply(429, {}, {"Retry-After": "7"}), 7.0, id="429 says how long"),
            pytest.param(Reply(429, b"slow down"), None, id="429 says nothing"),
            pytest.param(Reply(500, {"message": "oops"}), None, id="500"),
            pytest.param(Reply(503, b"<html>", {"Retry-After": "120"}), 120.0, id="503"),
            pytest.param(None, None, id="the connection is lost"),
        ],
    )
    def test_what_passes_is_told_as_passing(
        self,
        account: Account,
        fake: FakeAPI,
        writing: bool,
        reply: Reply | None,
        wait: float | None,
    ) -> None:
        fake.fault(reply, writing=writing)
        with pytest.raises(ProviderBusy) as busy:
            account.provider.add_txt(challenge())
        assert busy.value.retry_after == wait
        assert fake.published(NAME) == []

    def test_an_answer_that_is_lost_after_the_write_does_no_harm(
        self, account: Account, fake: FakeAPI
    ) -> None:
        fake.fault(None, writing=True, after=True)
        with pytest.raises(ProviderBusy):
            account.provider.add_txt(challenge())
        account.provider.add_txt(challenge())
        account.provider.add_txt(challenge(SECOND))
        assert sorted(fake.published(NAME)) == sorted([FIRST, SECOND])
        fake.fault(None, writing=True, after=True)
        with pytest.raises(ProviderBusy):
            account.provider.remove_txt(challenge())
        account.provider.remove_txt(challenge())
        assert fake.published(NAME) == [SECOND]

    def test_a_token_that_may_only_read_is_told_what_it_lacks(
        self, fake: FakeAPI, provider: Callable[[str], Any]
    ) -> None:
        reader = provider(READER)
        with pytest.raises(ProviderDenied) as denied:
            reader.add_txt(challenge())
        assert denied.value.next in reader.credential
        assert READER not in str(denied.value)
        assert fake.published(NAME) == []

    def test_a_zone_of_somebody_else_is_told_at_removal_too(self, account: Account) -> None:
        record = challenge(zone="elsewhere.example", name="_acme-challenge.elsewhere.example")
        with pytest.raises(ProviderError, match=r"no zone elsewhere\.example"):
            account.provider.remove_txt(record)

    @pytest.mark.parametrize("body", [b"<html>hello</html>", {}, [], [[]], b"7"], ids=repr)
    def test_an_answer_of_another_shape_is_no_mistake_of_ours(
        self, account: Account, fake: FakeAPI, body: Any
    ) -> None:
        for _ in range(9):
            fake.fault(Reply(200, body))
        with contextlib.suppress(ProviderError):
            account.provider.add_txt(challenge())
        with contextlib.suppress(ProviderError):
            account.provider.remove_txt(challenge())
        fake.faults.clear()
        assert fake.published(NAME) == []

    @pytest.mark.parametrize("tail", ["\n", "é", "€"])
    def test_a_token_that_cannot_be_sent_is_refused_here(
        self, fake: FakeAPI, provider: Callable[[str], DNSProvider], tail: str
    ) -> None:
        with pytest.raises(ProviderDenied) as denied:
            provider(f"{TOKEN}{tail}x").add_txt(challenge())
        assert TOKEN not in str(denied.value)
        assert fake.requests == []

    def test_the_ttl_is_ours_but_not_below_the_least(self, account: Account, fake: FakeAPI) -> None:
        account.provider.add_txt(challenge(ttl=1))
        assert fake.ttl(NAME) == self.minimum_ttl
        name = f"_acme-challenge.long.{ZONE}"
        account.provider.add_txt(challenge(name=name, ttl=self.minimum_ttl + 60))
        assert fake.ttl(name) == self.minimum_ttl + 60

    def test_nothing_is_written_that_is_there_already(
        self, account: Account, fake: FakeAPI
    ) -> None:
        account.provider.remove_txt(challenge())
        assert fake.writes == []
        account.provider.add_txt(challenge())
        before = len(fake.writes)
        account.provider.add_txt(challenge())
        account.provider.remove_txt(challenge(SECOND))
        assert len(fake.writes) == before

    def test_zones_are_those_of_every_page(self, account: Account) -> None:
        provider: Any = account.provider
        assert sorted(provider.zones()) == sorted(self.account_zones)

    @pytest.mark.parametrize(
        "url",
        ["", "api.example", "ftp://api.example", "http://api.example", "https://u:p@api.example",
         "https://api.example/?x", "https://[::1"],
    )  # fmt: skip
    def test_an_address_that_would_not_do_is_refused(self, account: Account, url: str) -> None:
        provider: Any = account.provider
        check = {each.name: each for each in dataclasses.fields(provider)}["url"].metadata["check"]
        with pytest.raises(Exception, match=r"address|clear text|credential"):
            check(url)
        check("https://api.example/v1")
