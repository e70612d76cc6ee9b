"""What the fakes of DNS providers' APIs have in common: HTTP, and what goes wrong with it."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from certd.api import ProviderBusy, ProviderError, TxtRecord
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str  # as it stands in the request's first line
    headers: Mapping[str, str]
    body: str

    @property
    def path(self) -> str:
        return urllib.parse.unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body, keep_blank_values=True))


@dataclass
class Reply:
    status: int = 200
    body: str = ""
    type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(status: int, content: Any, **headers: str) -> Reply:
    return Reply(status, json.dumps(content), headers=headers)


class Fake:
    """An API's server; a subclass has its state, and ``answer`` makes its answers.

    ``instead`` are answers given to the next requests, which then change nothing. The request
    of the number ``lost`` is obeyed, but its answer never comes.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.instead: list[Reply] = []
        self.lost: int | None = None
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Reply:
        raise NotImplementedError

    def reply(self, asked: Asked) -> Reply | None:
        with self._lock:
            self.asked.append(asked)
            if self.instead:
                return self.instead.pop(0)
            made = self.answer(asked)
            return None if self.lost == len(self.asked) - 1 else made

    def lose(self, number: int) -> None:
        """The answer to the request after so many others."""
        self.lost = len(self.asked) + number


def _handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits for the client's acknowledgement
        timeout = 10

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            made = fake.reply(Asked(self.command, self.path, dict(self.headers), body))
            self.close_connection = made is None
            if made is None:
                return
            raw = made.body.encode()
            self.send_response(made.status)
            for name, value in made.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", made.type)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler


@contextmanager
def running(fake: Fake) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment stands between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Mishaps:
    """What can happen to the requests of any of them; with the fixtures ``fake``, ``account``.

    ``lenient``: an answer of the service has nothing that could be missed.
    """

    lenient = False

    def record(self, account: Account, value: str = FIRST) -> TxtRecord:
        return TxtRecord(account.zone, account.name("_acme-challenge"), value, 60)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_passing_failure_says_when_to_come_again(
        self, fake: Fake, account: Account, status: int
    ) -> None:
        page = "<html>try later</html>"
        fake.instead = [Reply(status, page, "text/html", {"Retry-After": "7"})]
        with pytest.raises(ProviderBusy) as busy:
            account.provider.add_txt(self.record(account))
        assert busy.value.retry_after == 7
        account.provider.add_txt(self.record(account))
        assert list(account.values(self.record(account).name)) == [FIRST]

    @pytest.mark.parametrize("body", ["", "<html>sign in</html>", "[]", "{", "null", '{"a": 1}'])
    def test_an_answer_that_is_not_its_own_is_an_error(
        self, fake: Fake, account: Account, body: str
    ) -> None:
        """A proxy's page, say: it says 200, and nothing was done."""
        if self.lenient:
            pytest.skip("its answers say nothing")
        fake.instead = [Reply(200, body, "text/html")]
        with pytest.raises(ProviderError):
            account.provider.add_txt(self.record(account))

    def test_what_is_lost_after_it_was_done_is_done_once(
        self, fake: Fake, account: Account
    ) -> None:
        """Each answer in turn: the same call again finds what the one before has done."""
        record = self.record(account)
        for change, left in (
            (account.provider.add_txt, [FIRST]),
            (account.provider.remove_txt, []),
        ):
            if not left and not getattr(account.provider, "removes", True):
                continue
            self.undo(account, change)
            begun = len(fake.asked)
            change(record)
            for number in range(len(fake.asked) - begun):
                self.undo(account, change)
                fake.lose(number)
                with pytest.raises(ProviderBusy):
                    change(record)
                change(record)
                assert list(account.values(record.name)) == left
                fake.lost = None

    def undo(self, account: Account, change: Callable[[TxtRecord], None]) -> None:
        if change == account.provider.add_txt:
            account.provider.remove_txt(self.record(account))
        else:
            account.provider.add_txt(self.record(account))

    def test_nothing_of_a_credential_is_logged_or_said(
        self, fake: Fake, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        record = self.record(account, SECOND)
        account.provider.add_txt(record)
        account.provider.remove_txt(record)
        last = fake.asked[-1]
        sent = f"{last.target} {list(last.headers.items())} {last.body}"
        echo = "; ".join(secret for secret in account.secrets if secret in sent)
        assert echo, "it says who it is"
        for status in (400, 401, 404, 500):
            fake.instead = [Reply(status, json.dumps({"message": echo, "error": echo}))]
            with pytest.raises(ProviderError) as refused:
                account.provider.add_txt(record)
            assert not [secret for secret in account.secrets if secret in str(refused.value)]
        assert not [secret for secret in account.secrets if secret in caplog.text]
