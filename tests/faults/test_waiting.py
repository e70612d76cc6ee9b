"""Waiting as the CA asks, on the real clock; and not for ever (faults 2, 3 and 10)."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from certd import config as configuration
from certd.ca.clients import Clients
from certd.ca.reading import WireError
from certd.ca.wire import Wire
from certd.engine.node import Node
from certd.store import Store
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA
from certd.testing.tls import Minted, mint
from tests.site import Site

ASKED = 2.0  # seconds that the CA asks for
LATE = 4.0  # seconds: by how much later than asked certd may come, on a busy machine

# From now to a header; an HTTP-date has whole seconds only, and takes a moment to be delivered.
FORMS = [
    pytest.param(lambda: f"{ASKED:.0f}", ASKED, id="seconds"),
    pytest.param(
        lambda: format_datetime(
            (datetime.now(UTC) + timedelta(seconds=ASKED + 2)).replace(microsecond=0), usegmt=True
        ),
        ASKED,
        id="HTTP-date",
    ),
]


def _pauses(exchanges: list[Exchange]) -> list[float]:
    """Seconds between each answer and the next question."""
    return [
        later.at - earlier.answered
        for earlier, later in itertools.pairwise(exchanges)
        if earlier.reply is not None
    ]


@pytest.mark.fault(row=2)
@pytest.mark.parametrize(("header", "seconds"), FORMS)
def test_retry_after_of_a_failing_server_is_obeyed(
    header: Callable[[], str], seconds: float, site: Site, faulty: FaultyCA
) -> None:
    faulty.on(
        "new-order",
        lambda exchange, forward: Reply(503, {"Retry-After": header()}, b"down"),
        times=1,
    )
    site.renew()
    pause = _pauses(faulty.seen("new-order"))[0]
    assert seconds <= pause < seconds + 1 + LATE


@pytest.mark.fault(row=10)
@pytest.mark.parametrize("kind", ["authorization", "order"])
@pytest.mark.parametrize(("header", "seconds"), FORMS)
def test_what_is_processing_is_looked_at_as_the_ca_asks(
    kind: str, header: Callable[[], str], seconds: float, site: Site, faulty: FaultyCA
) -> None:
    """One early look where the CA gave no time, or right after finalize; none after that."""
    issued = len(faulty.pebble.ledger())
    after = "challenge" if kind == "authorization" else "finalize"
    status = "pending" if kind == "authorization" else "processing"

    def process(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status != 200 or not faulty.seen(after) or len(held) == 3:
            return reply
        held.append(exchange)
        if kind == "order":
            reply = reply.but(certificate=None)
        return reply.but(status=status).with_header("Retry-After", header())

    held: list[Exchange] = []
    faulty.on(kind, process)
    if kind == "authorization":  # or the order would tell that it is ready
        faulty.on("order", lambda _, forward: _pending(forward(), len(held) < 3))
    site.renew()
    looks = [item for item in faulty.seen(kind) if item.number >= held[0].number]
    good = [item for item in looks if item.reply is not None and item.reply.status == 200]
    assert len(good) >= 3
    for pause in _pauses(good[:4]):
        assert seconds <= pause < seconds + 1 + LATE
    assert len(faulty.pebble.ledger()) == issued + 1


def _pending(reply: Reply, held: bool) -> Reply:
    return reply.but(status="pending") if held and reply.status == 200 else reply


def test_the_challenges_own_retry_after_is_obeyed(site: Site, faulty: FaultyCA) -> None:
    def ask_to_wait(exchange: Exchange, forward: Forward) -> Reply | None:
        return forward().with_header("Retry-After", f"{ASKED:.0f}")

    faulty.on("challenge", ask_to_wait)
    site.renew()
    answered = faulty.seen("challenge")[-1]
    following = next(item for item in faulty.exchanges if item.number > answered.number)
    assert ASKED <= following.at - answered.answered < ASKED + LATE


# Silence

SILENCE, DEADLINE = 0.3, 0.8  # seconds


@pytest.fixture
def minted(tmp_path: Path) -> Minted:
    return mint(tmp_path)


def _serve(listener: socket.socket, minted: Minted, talk: Callable[[ssl.SSLSocket], None]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(minted.fullchain, minted.key)
    try:
        connection, _ = listener.accept()
        with connection, context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(65536)
            talk(tls)
    except OSError:
        pass  # it has hung up, as it should


def _drip(text: bytes) -> Callable[[ssl.SSLSocket], None]:
    """Begins well, then a byte at a time, never silent for long."""

    def talk(tls: ssl.SSLSocket) -> None:
        tls.sendall(text)
        for _ in range(100):
            time.sleep(SILENCE / 3)
            tls.sendall(b"x")

    return talk


def _silent(tls: ssl.SSLSocket) -> None:
    tls.recv(1)  # until it hangs up


@pytest.fixture
def talking(
    minted: Minted,
) -> Iterator[Callable[[Callable[[ssl.SSLSocket], None]], int]]:
    """``talking(talk)`` is the port of a server that does so to its first client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def start(talk: Callable[[ssl.SSLSocket], None]) -> int:
            threads.append(threading.Thread(target=_serve, args=(listener, minted, talk)))
            threads[0].start()
            return int(listener.getsockname()[1])

        yield start
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.fault(row=3)
@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(_silent, id="no answer"),
        pytest.param(_drip(b"HTTP/1.1 200 OK\r\n"), id="a header byte by byte"),
        pytest.param(
            _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"), id="a body byte by byte"
        ),
        pytest.param(_drip(b"HTTP/1.1 200 OK\r\n\r\n"), id="a body without a length"),
    ],
)
def test_a_slow_server_holds_nobody(
    talk: Callable[[ssl.SSLSocket], None],
    minted: Minted,
    talking: Callable[[Callable[[ssl.SSLSocket], None]], int],
) -> None:
    port = talking(talk)
    wire = Wire(ssl.create_default_context(cafile=minted.root), SILENCE, DEADLINE)
    begun = time.monotonic()
    with pytest.raises(WireError, match="in time"):
        wire.exchange("GET", f"https://127.0.0.1:{port}/", None, {})
    wire.close()
    assert time.monotonic() - begun < DEADLINE + LATE


@pytest.mark.fault(row=3)
def test_a_server_without_tls_holds_nobody(minted: Minted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(ssl.create_default_context(cafile=minted.root), SILENCE, DEADLINE)
        begun = time.monotonic()
        with pytest.raises(WireError, match="in time"):
            wire.exchange("GET", f"https://127.0.0.1:{listener.getsockname()[1]}/", None, {})
        wire.close()
    assert time.monotonic() - begun < DEADLINE + LATE


@pytest.mark.fault(row=3)
def test_others_go_on_while_the_ca_is_silent_to_one(site: Site, faulty: FaultyCA) -> None:
    """A certificate whose exchange hangs takes a thread, and no more."""
    site.certificate("other", "other.example.com")
    released = threading.Event()
    times: dict[str, float] = {}

    def hang(exchange: Exchange, forward: Forward) -> Reply | None:
        name = exchange.payload["identifiers"][0]["value"]
        if name == "www.example.com" and not released.is_set():
            released.wait(10)
            times["released"] = time.monotonic()
        return forward()

    def downloaded(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status == 200:
            times.setdefault("downloaded", time.monotonic())
            released.set()
        return reply

    faulty.on("new-order", hang)
    faulty.on("certificate", downloaded)
    site.renew()
    assert times["downloaded"] <= times["released"]
    assert {entry["state"] for entry in site.status().values()} == {"ok"}


@pytest.fixture
def mute() -> Iterator[str]:
    """The directory of a CA that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/dir"


@pytest.mark.fault(row=3)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_mute_ca_holds_up_no_other(
    workers: int, site: Site, mute: str, pebble: RunningPebble
) -> None:
    """Forty certificates wanted from it cost its silence once, not forty times."""
    issued = len(pebble.ledger())
    site.tables["ca.mute"] = {"directory": mute, "agree_tos": True}
    site.tables["certd"]["workers"] = workers
    for number in range(40):
        site.certificate(f"mute{number}", f"mute{number}.example.com", ca=["mute"])
    config = configuration.load(site.path)
    store = Store.open(site.state)
    store.lineages.take_over(config.certificates, config.digest)
    node = Node(config, store, lambda name, text: None)
    clients = Clients(config.cas, store.accounts, config.contact, 1.0)
    node.reconciler.follow(config, clients, node.publisher(config))
    names = sorted(config.certificates, key=lambda name: (name == "www", name))  # www is last
    assert set(store.leases.claim(names)) == set(names)
    node.start()
    begun = time.monotonic()
    node.engine.add(names)
    node.engine.wait(30)  # for www: the others come again after a while
    took = time.monotonic() - begun
    clients.close()
    node.stop()
    store.close()
    assert len(pebble.ledger()) == issued + 1
    assert took < 2 + LATE
