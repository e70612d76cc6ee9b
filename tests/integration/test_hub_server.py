"""A hub's thread by itself: whom it lets in, for how long, and what it says of the others."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import IO, Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from certd.distribution import server as module
from certd.distribution.server import Server
from certd.distribution.session import Refused
from certd.model import Bundle, Certificate
from certd.testing.chains import Authority, pem
from certd.x509 import facts, new_key
from tests.machines import within

NOW = datetime.now(UTC)
BEGIN, END = NOW - timedelta(hours=1), NOW + timedelta(days=7)
OURS, OTHERS = Authority.root("Ours"), Authority.root("Others")
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
ASKING = b"GET /v1/certificates/www HTTP/1.1\r\n\r\n"


def bundle(name: str, *names: str) -> Bundle:
    key = new_key("ec-p256")
    leaf = OURS.leaf(key, *names, not_before=BEGIN, not_after=END)
    return Bundle(name, 1, pem(leaf), pem(OURS.certificate), key, facts(leaf))


@dataclass
class Stock:
    """``web1`` may have ``www``."""

    trusted: str = pem(OURS.certificate)
    bundles: Mapping[str, Bundle] = field(
        default_factory=lambda: {one: bundle(one, "localhost") for one in ("hub", "www")}
    )

    def fingerprints(self) -> Mapping[str, str]:
        return {name: one.certificate.fingerprint for name, one in self.bundles.items()}

    def certificates_of(self, client: Certificate) -> tuple[str, frozenset[str]]:
        who = client.identifiers[0].value
        if who != "web1":
            raise Refused(f"{who} gets nothing")
        return who, frozenset(["www"])

    def bundle(self, name: str) -> Bundle | None:
        return self.bundles[name]

    def shown(self) -> str:
        return "hub"

    def roots(self) -> str:
        return self.trusted


@dataclass
class Running:
    stock: Stock
    server: Server
    port: int
    folder: Path

    def client(self, name: str = "web1", by: Authority = OURS) -> ssl.SSLContext:
        """For one more client, with a key of its own."""
        key = new_key("ec-p256")
        leaf = by.leaf(key, name, not_before=BEGIN, not_after=END, usages=CLIENT)
        path = self.folder / "client.pem"
        path.write_text(pem(leaf) + key.reveal())
        context = ssl.create_default_context(cadata=pem(OURS.certificate))
        context.load_cert_chain(path)
        return context

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, context: ssl.SSLContext) -> bytes:
        with self.connect() as plain:
            return answer(context, plain)


def answer(context: ssl.SSLContext, plain: socket.socket) -> bytes:
    """The status line; b"" where the connection is closed instead."""
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(ASKING)
        return tls.recv(65536).partition(b"\r\n")[0]
    return b""


GIVEN = b"HTTP/1.1 200 OK"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    stock = Stock()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listener.getsockname()[1]
    server = Server(stock)
    server.start([listener])
    one = Running(stock, server, port, tmp_path)
    try:
        known = one.client()
        within(10, lambda: one.ask(known) == GIVEN)
        yield one
    finally:
        server.stop()


def test_who_has_just_come_need_not_make_room(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else of many good clients that come at once only the last would be let in."""
    monkeypatch.setattr(module, "MAX_STRANGERS", 4)
    monkeypatch.setattr(module, "A_MOMENT", 30.0)
    context = running.client()
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(running.connect()) for _ in range(20)]
        assert [answer(context, plain) for plain in several] == [GIVEN] * 20


def test_who_does_not_go_on_makes_room(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STRANGERS", 4)
    monkeypatch.setattr(module, "A_MOMENT", 0.2)
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 60.0)
    context = running.client()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(running.connect()).sendall(b"\x16\x03\x01")
        assert running.ask(context) == GIVEN


def test_who_comes_when_there_is_no_room_is_told_of(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inside, outside = running.client(), running.client()
    within(10, lambda: not running.server._known)  # who came first has gone
    monkeypatch.setattr(running.server, "_cap", 1)
    with (
        running.connect() as plain,
        inside.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(ASKING)
        assert tls.recv(65536).startswith(GIVEN)
        assert running.ask(outside) == b""
    assert "distribution: no more than 1 connections are taken" in caplog.text


def test_other_roots_hold_for_handshakes_that_have_begun(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 60.0)  # or it would be hung up on for that
    before, after = running.client(), running.client(by=OTHERS)
    with running.connect() as plain:
        within(10, lambda: len(running.server._strangers) == 1)
        running.stock.trusted = pem(OTHERS.certificate)
        within(10, lambda: running.ask(after) == GIVEN)
        assert answer(before, plain) == b""
    assert running.ask(before) == b""


def test_roots_that_cannot_be_used_let_nobody_in(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    context = running.client()
    running.stock.trusted = "nothing"
    within(10, lambda: "roots of the clients' CA cannot be used" in caplog.text)
    assert running.ask(context) == b""
    running.stock.trusted = pem(OURS.certificate)
    within(10, lambda: running.ask(context) == GIVEN)


@pytest.mark.parametrize(
    ("name", "by", "status", "words"),
    [
        ("web2", OURS, b"HTTP/1.1 403 Forbidden", "distribution: web2 gets nothing"),
        (
            "web1",
            OTHERS,
            b"",
            "a client at 127.0.0.1 is not let in: its client certificate is not good: unable to",
        ),
    ],
)
def test_who_gets_nothing_is_told_of(
    name: str,
    by: Authority,
    status: bytes,
    words: str,
    running: Running,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running.server.complain._until.clear()
    assert running.ask(running.client(name, by)) == status
    within(20, lambda: words in caplog.text)


def test_a_client_that_does_not_know_us_is_told_of(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(cadata=pem(OTHERS.certificate))
    assert running.ask(context) == b""
    words = "it does not take the certificate that it is shown (TLSV1_ALERT_UNKNOWN_CA)"
    within(20, lambda: words in caplog.text)


class Later(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Later:
        return cls.fromtimestamp(time.time(), tz) + timedelta(days=365)


def test_who_is_dropped_before_its_handshake_has_begun_is_hung_up_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roots change in the moment in which it is let in."""
    loop = running.server._loop
    create = loop.create_task

    def dropped(work: Any, **how: Any) -> Any:
        task = create(work, **how)
        if work.__qualname__ == "Server._serve":
            task.cancel()
        return task

    monkeypatch.setattr(loop, "create_task", dropped)
    with running.connect() as plain:
        assert plain.recv(1) == b""


def test_who_expires_meanwhile_is_hung_up_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next handshake says why: it would look for its table, were it told 403."""
    context = running.client()
    with (
        running.connect() as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(ASKING)
        assert tls.recv(65536).startswith(GIVEN)
        monkeypatch.setattr("certd.distribution.session.datetime", Later)
        tls.sendall(ASKING)
        with contextlib.suppress(ssl.SSLEOFError, ConnectionResetError):
            assert tls.recv(65536) == b""


def test_what_tls_has_to_answer_does_not_heap_up(running: Running) -> None:
    """A client may ask for other keys without end; what each is answered was kept."""
    running.client()
    pair = str(running.folder / "client.pem")
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-msg"]
    with subprocess.Popen(
        [*argv, "-cert", pair, "-key", pair],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answered = threading.Event()
        asking = threading.Thread(target=ask_for_keys, args=(process.stdin, answered))
        asking.start()
        try:
            assert any(line.startswith(b"<<<") and b"KeyUpdate" in line for line in process.stdout)
        finally:
            answered.set()
            asking.join()
            process.kill()


def ask_for_keys(openssl: IO[bytes], enough: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not enough.wait(0.05):
            openssl.write(b"K\n")
            openssl.flush()


def test_each_who_is_refused_is_told_of(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    refused = [running.client(name) for name in ("one", "two", "three")]
    for context in refused:
        for _ in range(2):
            assert running.ask(context) == b"HTTP/1.1 403 Forbidden"
    told = [record.getMessage() for record in caplog.records if "gets nothing" in record.message]
    assert told == [f"distribution: {name} gets nothing" for name in ("one", "two", "three")]


def test_a_moment_in_which_the_store_was_slow_makes_nobody_blind(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_MOST", 1.0)
    looks, usual = list[float](), running.stock.fingerprints

    def slow() -> Mapping[str, str]:
        looks.append(time.monotonic())
        if len(looks) == 1:
            time.sleep(2)  # forty seconds, if it were for the share of its time alone
        return usual()

    running.stock.fingerprints = slow  # type: ignore[method-assign]
    within(20, lambda: len(looks) > 1)
