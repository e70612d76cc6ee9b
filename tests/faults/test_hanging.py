"""One that is silent, or hangs, takes no thread from the others (fault 3): at the same CA,
and at the targets.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certd import config as configuration
from certd.ca.clients import Clients
from certd.ca.wire import SILENCE
from certd.engine.node import Node
from certd.silence import LEFT_ALONE
from certd.store import Store
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.site import Site

WORKERS = 4
HANGING = [f"hanging{number}" for number in range(6)]
GOOD = [f"good{number}" for number in range(6)]
# Seconds until the good ones are served: those that hang do so for far longer.
ON_TIME = 20.0


@contextlib.contextmanager
def _at_work(site: Site, let_go: Callable[[], None], silence: float = SILENCE) -> Iterator[Node]:
    """certd in this process, with all certificates leased; ``let_go`` ends what hangs.

    ``silence``, in seconds, is how long a CA's answer is waited for.
    """
    site.tables["certd"]["workers"] = WORKERS
    site.write()
    config = configuration.load(site.path)
    store = Store.open(site.state)
    store.lineages.take_over(config.certificates, config.digest, config.table_digests)
    node = Node(config, store, lambda name, text: None)
    node.listen()
    clients = Clients(config.cas, store.accounts, config.contact, silence)
    node.reconciler.follow(config, clients, node.publisher(config))
    names = list(config.certificates)
    assert set(store.leases.claim(names)) == set(names)
    node.start()
    try:
        yield node
    finally:
        let_go()
        assert node.stop()
        clients.close()
        store.close()


def _settle(node: Node, names: list[str]) -> float:
    """Wait until all of them have settled; returns the seconds."""
    begun = time.monotonic()
    while any(node.engine.has(name) for name in names):
        assert time.monotonic() - begun < ON_TIME, [n for n in names if node.engine.has(n)]
        node.engine.wait(0.1)
    return time.monotonic() - begun


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ON_TIME
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.fault(row=3)
@pytest.mark.parametrize("kind", ["new-order", "order", "finalize"])
def test_a_ca_that_is_silent_to_some_serves_the_others(
    kind: str, site: Site, faulty: FaultyCA
) -> None:
    released = threading.Event()
    silent: set[str] = set()  # the last parts of their orders' paths

    def order(exchange: Exchange, forward: Forward) -> Reply | None:
        hangs = exchange.payload["identifiers"][0]["value"].startswith("hanging")
        if hangs and kind == "new-order":
            released.wait(60)
            return None
        reply = forward()
        if hangs and reply.status == 201:
            silent.add((reply.header("Location") or "").rpartition("/")[2])
        return reply

    def hang(exchange: Exchange, forward: Forward) -> Reply | None:
        if exchange.path.rpartition("/")[2] in silent:
            released.wait(60)
            return None
        return forward()

    faulty.on("new-order", order)
    faulty.on(kind, hang)
    del site.tables["certificate.www"]
    for name in [*HANGING, *GOOD]:
        site.certificate(name, f"{name}.example.com")
    with _at_work(site, released.set) as node:
        node.engine.add([*HANGING, *GOOD])
        _settle(node, GOOD)
        assert all(node.engine.has(name) for name in HANGING)
        assert node.engine.alive()
        assert all(node.store.lineages.get(name).current for name in GOOD)


@pytest.mark.fault(row=3)
def test_a_ca_that_was_silent_to_one_is_asked_for_the_others(site: Site, faulty: FaultyCA) -> None:
    """One time-out at a CA that answers others does not make them stay away from it."""
    released = threading.Event()

    def hang(exchange: Exchange, forward: Forward) -> Reply | None:
        if exchange.payload["identifiers"][0]["value"].startswith("hanging"):
            released.wait(60)
            return None
        return forward()

    faulty.on("new-order", hang)
    del site.tables["certificate.www"]
    for name in [HANGING[0], *GOOD]:
        site.certificate(name, f"{name}.example.com")
    with _at_work(site, released.set, silence=1.0) as node:
        node.engine.add(HANGING[:1])
        _until(lambda: bool(faulty.seen("new-order")))
        node.engine.add(GOOD[:1])
        _settle(node, GOOD[:1])
        _until(lambda: not node.engine._running)  # its time is over, and it waits
        assert node.engine.has(HANGING[0])
        node.engine.add(GOOD[1:])
        assert _settle(node, GOOD) < LEFT_ALONE / 2


@pytest.fixture
def wordless() -> Iterator[socket.socket]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


@pytest.mark.parametrize("what", ["a reload command that sleeps", "an endpoint that is silent"])
def test_targets_that_hang_hold_up_no_other(
    what: str, site: Site, wordless: socket.socket, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    if what.startswith("a reload"):
        site.disk("stuck", reload=["sh", "-c", f"until test -e {go}; do sleep 0.1; done"])
    else:
        port = wordless.getsockname()[1]
        site.disk("stuck", verify=[f"127.0.0.1:{port}"])
    site.disk("web")
    del site.tables["certificate.www"]
    for name in HANGING:
        site.certificate(name, f"{name}.example.com", targets=["stuck"])
    for name in GOOD:
        site.certificate(name, f"{name}.example.com", targets=["web"])

    def let_go() -> None:
        go.touch()
        wordless.close()

    with _at_work(site, let_go) as node:
        node.engine.add(HANGING)
        get = node.store.lineages.get
        _until(lambda: all(get(name).current for name in HANGING[:WORKERS]))
        node.engine.add(GOOD)
        _settle(node, GOOD)
        phases = [get(name).targets["web"].phase for name in GOOD]
        assert phases == ["verified"] * len(GOOD)
        assert all(node.engine.has(name) for name in HANGING)
