"""A look at a target: every address, at the same time; what is wrong, and of which kind it is."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from certd import looking
from certd.config import Endpoint, TargetSettings
from certd.config.hsts import parse
from certd.errors import TargetBusy, TargetError, Unfit, Unseen
from certd.looking import Sight, look
from certd.model import Bundle
from certd.testing.chains import bundle
from tests.endpoints import endpoint

Serve = Callable[..., int]
MINE, OTHERS = bundle(), bundle(version=2)
CHAIN = "CN=Intermediate 1"


@dataclass(frozen=True, slots=True)
class Place:
    there: str | None = None
    failure: TargetError | None = None

    def deploy(self, bundle: Bundle) -> None: ...

    def serving(self, name: str) -> str | None:
        if self.failure:
            raise self.failure
        return self.there


def target(*endpoints: Endpoint, **place: Any) -> TargetSettings:
    return TargetSettings("web", "place", Place(**place), verify=endpoints)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(bundle)`` at an address; with ``header`` it answers a request by HTTP."""
    with contextlib.ExitStack() as running:

        def serve(
            bundle: Bundle = MINE,
            address: str = "127.0.0.1",
            port: int = 0,
            pem: str = "",
            answer: str | None = None,
        ) -> int:
            files = tmp_path / f"{time.monotonic_ns()}.pem"
            files.write_text((pem or bundle.fullchain_pem) + bundle.key_pem.reveal())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files)

            def answered(connection: socket.socket) -> None:
                with context.wrap_socket(connection, server_side=True) as channel:
                    if channel.recv(4096) and answer is not None:
                        channel.sendall(answer.encode())

            return running.enter_context(endpoint(answered, address, port))

        yield serve


def trouble(settings: TargetSettings) -> TargetError:
    with pytest.raises(TargetError) as failed:
        look(MINE, settings)
    return failed.value


def test_what_is_served_at_each_address_is_told(serve: Serve) -> None:
    port = serve()
    serve(address="127.0.0.2", port=port)
    sights: list[Sight] = []
    both = Endpoint("www.example.com", port, addresses=("127.0.0.1", "127.0.0.2"))
    look(MINE, target(both, there=MINE.certificate.fingerprint), sights)
    place, *others = sights
    assert (place.endpoint, place.fingerprint) == (None, MINE.certificate.fingerprint)
    assert [sight.address for sight in others] == ["127.0.0.1", "127.0.0.2"]
    assert {sight.fingerprint for sight in others} == {MINE.certificate.fingerprint}
    assert all(sight.served and len(sight.served.sent) == 2 for sight in others)


def test_one_address_that_serves_another_is_told(serve: Serve) -> None:
    port = serve()
    serve(OTHERS, address="127.0.0.2", port=port)
    both = Endpoint("www.example.com", port, addresses=("127.0.0.1", "127.0.0.2"))
    error = trouble(target(both))
    assert type(error) is TargetError
    assert error.what == f"{both} at 127.0.0.2 does not serve version 1"
    assert f"serial {OTHERS.certificate.serial}" in error.why


def test_what_is_not_in_place_is_told_before_anybody_is_asked(serve: Serve) -> None:
    port = serve(OTHERS)
    settings = target(Endpoint("127.0.0.1", port), there=OTHERS.certificate.fingerprint)
    assert "has another certificate in place" in trouble(settings).what
    sights: list[Sight] = []
    with pytest.raises(TargetError, match=r"also 127\.0\.0\.1"):
        look(MINE, settings, sights)
    assert [sight.trouble is not None for sight in sights] == [True, True]


def test_a_service_that_is_busy_stays_one() -> None:
    busy = TargetBusy("web is busy", retry_after=7)
    assert trouble(target(failure=busy)) is busy


def test_the_kinds_of_trouble_are_told_apart(serve: Serve, free_port: Callable[[], int]) -> None:
    good, other = Endpoint("127.0.0.1", serve()), Endpoint("127.0.0.1", serve(OTHERS))
    closed = Endpoint("127.0.0.1", free_port())
    lax = replace(good, hsts=parse("max-age=1"))
    assert type(trouble(target(good, closed))) is Unseen
    assert type(trouble(target(Endpoint("a" * 64, 443)))) is Unseen
    assert type(trouble(target(other))) is TargetError
    assert type(trouble(target(closed, good, other))) is TargetError
    assert "also" in trouble(target(closed, good, other)).why
    assert type(trouble(target(closed, lax))) is Unseen


def test_twenty_silent_addresses_take_one_time_out_together(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PROBE_TIMEOUT", 1.0)
    port = serve()
    numbers = range(2, 21)
    with contextlib.ExitStack() as silent:
        for number in numbers:
            # Connections are taken by the kernel, and nobody ever answers.
            silent.enter_context(socket.create_server((f"127.0.0.{number}", port)))
        addresses = ("127.0.0.1", *(f"127.0.0.{number}" for number in numbers))
        began = time.monotonic()
        sights: list[Sight] = []
        with pytest.raises(Unseen, match="no TLS handshake within"):
            look(MINE, target(Endpoint("www.example.com", port, addresses=addresses)), sights)
        assert time.monotonic() - began < 10  # by turns: 20
    seen = [sight for sight in sights if sight.served]
    assert [sight.address for sight in seen] == ["127.0.0.1"]
    assert len(sights) == 21


def test_an_address_without_a_way_to_it_is_skipped_where_another_was_seen(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine may have IPv6 or not, so its refusal is made here."""
    connect = socket.create_connection

    def no_ipv6(address: tuple[str, int], *rest: Any) -> socket.socket:
        if ":" in address[0]:
            raise OSError(101, "Network is unreachable")
        return connect(address, *rest)

    monkeypatch.setattr(socket, "create_connection", no_ipv6)
    port = serve()
    both = Endpoint("www.example.com", port, addresses=("2001:db8::1", "127.0.0.1"))
    sights: list[Sight] = []
    look(MINE, target(both), sights)
    skipped = next(sight for sight in sights if sight.address == "2001:db8::1")
    assert "Network is unreachable" in skipped.skipped
    assert skipped.trouble is None
    assert type(trouble(target(replace(both, addresses=("2001:db8::1",))))) is not TargetError


def test_a_leaf_without_its_chain_is_told_by_name(serve: Serve) -> None:
    bare = Endpoint("127.0.0.1", serve(pem=MINE.leaf_pem))
    error = trouble(target(bare))
    assert error.what == f"{bare} serves version 1 with a chain that does not do"
    assert error.why == f"the intermediate {CHAIN} is missing"
    look(MINE, target(replace(bare, pins=(MINE.certificate.spki_sha256,))))
    assert error.next == "let the server send the whole chain: fullchain.pem, not cert.pem"
    error = trouble(target(replace(bare, pins=("x",))))
    assert "none of its keys is pinned" in error.why
    assert error.next == "correct pins in verify = […]: `certd show www --pins` has those of now"


def test_the_roots_are_those_of_the_file(serve: Serve, tmp_path: Path) -> None:
    whole = Endpoint("127.0.0.1", serve())
    (tmp_path / "good.pem").write_text(MINE.chain_pem)
    (tmp_path / "bad.pem").write_text(OTHERS.chain_pem)
    look(MINE, target(replace(whole, roots=tmp_path / "good.pem")))
    error = trouble(target(replace(whole, roots=tmp_path / "bad.pem")))
    assert "a client that trusts bad.pem refuses it: " in error.why
    assert error.next.endswith("fullchain.pem, not cert.pem; or correct roots in verify = […]")
    gone = trouble(target(replace(whole, roots=tmp_path / "gone.pem")))
    assert "gone.pem cannot be read" in gone.why
    assert gone.next == "let certd's user read it, or correct roots in verify = […]"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=100\r\n\r\n", ""),
        ("HTTP/1.1 404 No\r\nstrict-transport-security:max-age=200\r\n\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=9\r\n"
            "Strict-Transport-Security: max-age=100\r\n\r\n",
            'it serves "max-age=9": max-age is 9, and 100 is wanted',
        ),
        ("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", "it serves none"),
        (
            "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=ten\r\n\r\n",
            "browsers ignore max-age=ten: max-age is no number",
        ),
    ],
)
def test_the_hsts_header_is_compared(serve: Serve, answer: str, why: str) -> None:
    wanted = Endpoint("127.0.0.1", serve(answer=answer), hsts=parse("max-age=100"))
    if not why:
        look(MINE, target(wanted))
        return
    error = trouble(target(wanted))
    assert type(error) is Unfit
    assert why in error.why


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("SSH-2.0-x\r\n", "it does not speak HTTP: SSH-2.0-x"),
        ("HTTP/1.1 200 OK\r\n" + "a: b\r\n" * 300, "more than 200 header fields"),
        ("HTTP/1.1 200 OK\r\na: " + "b" * 20000, "a line of more than"),
        ("HTTP/1.1 200 OK\r\n", "the connection was closed before"),
        ("", "the connection was closed before"),
    ],
)
def test_what_is_no_answer_by_http_is_told(serve: Serve, answer: str, why: str) -> None:
    wanted = Endpoint("127.0.0.1", serve(answer=answer), hsts=parse("max-age=100"))
    error = trouble(target(wanted))
    assert type(error) is Unfit
    assert why in error.why
