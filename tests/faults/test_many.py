"""One certificate's trouble is no other's: three of ten fail, in ten ways, and seven are on time.

CERTD_MANY is how many there are: a thousand take a minute or two of a busy machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from certd import x509
from certd.testing.chains import bundle
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults import invariants
from tests.site import Site

MANY = int(os.environ.get("CERTD_MANY", "100"))
# Of each hundred these, each three times; the others are good.
WAYS = {
    "rejected": "the CA rejects the identifier",
    "unreachable": "the CA finds nobody at the name",
    "broken": "500 for every order",
    "mute": "the CA never says a word about the order",
    "wrong": "somebody else's certificate",
    "endless": "processing, for ever",
    "limited": "429, with Retry-After",
    "reset": "the connection is cut",
    "unloaded": "the reload command fails",
    "unwritable": "the target's folder cannot be made",
}
AT_THE_CA = ("rejected", "broken", "mute", "wrong", "endless", "limited", "reset")
EACH = MANY * 3 // 100
NEIGHBOURS = EACH * 3  # good ones at the very CA that fails the others
# Seconds until all good ones are served: far more than they take alone, and far less than
# the silence, the waits and the back-offs of the others come to.
ON_TIME = 30.0 + 0.2 * MANY
LOOK = 0.5  # seconds between two looks, each of which holds up who writes
REFUSED = {
    "rejected": Reply.problem(400, "rejectedIdentifier", "not that name"),
    "broken": Reply.problem(500, "serverInternal", "oops"),
    "limited": Reply.problem(429, "rateLimited", "too many").with_header("Retry-After", "3600"),
    "reset": None,
}


def _name(identifiers: object) -> str:
    """The way of the certificate that an order is for."""
    return str(identifiers).partition("'value': '")[2].partition("-")[0]


def _refuse(over: threading.Event) -> Callable[[Exchange, Forward], Reply | None]:
    def act(exchange: Exchange, forward: Forward) -> Reply | None:
        way = _name(exchange.payload["identifiers"])
        if way == "mute":
            over.wait()
            return None
        return REFUSED[way] if way in REFUSED else forward()

    return act


def _process(exchange: Exchange, forward: Forward) -> Reply | None:
    reply = forward()
    if reply.status != 200 or _name(reply.json()["identifiers"]) != "endless":
        return reply
    if reply.json()["status"] not in ("processing", "valid"):
        return reply
    return reply.but(status="processing", certificate=None)


def _exchanged(others: bytes) -> Callable[[Exchange, Forward], Reply | None]:
    def act(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status == 200:
            leaf = x509.facts(x509.read_chain(reply.body.decode())[0])
            if leaf.identifiers[0].value.startswith("wrong-"):
                return Reply(reply.status, reply.headers, others)
        return reply

    return act


def _want(site: Site, ca: FaultyCA, pebble: Pebble) -> list[str]:
    """Write the configuration; returns the names of the good ones."""
    shared = {"agree_tos": True}
    proxy = {"directory": ca.directory, "ca_bundle": str(ca.ca_bundle)}
    site.tables["certd"]["workers"] = 4  # Pebble can lock up under more connections
    site.tables["ca.faulty"] = {**proxy, **shared}
    site.disk().disk("unloaded", reload=["false"]).disk("unwritable", path="/proc/no/{name}")
    assert pebble.dns is not None
    wanted: dict[str, dict[str, object]] = {}
    for way in WAYS:
        asked = "faulty" if way in AT_THE_CA else "test"
        target = way if way in ("unloaded", "unwritable") else "web"
        for number in range(EACH):
            wanted[f"{way}-{number}"] = {"ca": [asked], "targets": [target]}
            if way == "unreachable":
                pebble.dns.add_a(f"{way}-{number}.example.com", "127.0.0.9")
    good = [f"good-{number}" for number in range(MANY - len(wanted))]
    for number, name in enumerate(good):
        asked = "faulty" if number < NEIGHBOURS else "test"
        wanted[name] = {"ca": [asked], "targets": ["web"]}
    # In an order in which every good one has bad ones before it.
    for name in sorted(wanted, key=lambda name: name.rpartition("-")[2].zfill(5)):
        settings = {"names": [f"{name}.example.com"], **wanted[name]}
        site.tables[f"certificate.{name}"] = settings
    site.write()
    return good


def _served(site: Site) -> set[str]:
    path = f"file:{site.state / 'certd.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True)) as database:
        query = "SELECT lineage FROM target WHERE phase = 'verified'"
        return {name for (name,) in database.execute(query)}


def test_of_many_certificates_the_good_ones_are_served_on_time(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(retry_after=(1, 1))
    stranger = bundle("stranger", 1).fullchain_pem.encode()
    over = threading.Event()
    with FaultyCA(pebble, tmp_path / "proxy") as ca, contextlib.ExitStack() as stack:
        stack.callback(over.set)
        ca.on("new-order", _refuse(over))
        ca.on("order", _process)
        ca.on("certificate", _exchanged(stranger))
        site = Site(tmp_path / "site", pebble)
        good = set(_want(site, ca, pebble))
        begun = time.monotonic()
        with site.start("run") as daemon:
            daemon.wait_until(lambda: "watching" in daemon.output())
            while not good <= _served(site):
                assert time.monotonic() - begun < ON_TIME, good - _served(site)
                time.sleep(LOOK)
            took = time.monotonic() - begun
            status = site.status()
            daemon.send(signal.SIGTERM)
            assert daemon.wait(20) == 0
    print(f"\n{len(good)} of {MANY} served in {took:.1f} s")
    invariants.assert_told(status)
    assert {status[name]["state"] for name in good} == {"ok"}
    bad = status.keys() - good
    assert len(bad) == EACH * len(WAYS)
    assert "ok" not in {status[name]["state"] for name in bad}
    told = {name.partition("-")[0] for name in bad if "failing" in status[name]["state"]}
    print(f"told to be failing by then: {', '.join(sorted(told))}")
    assert told >= {"rejected", "limited", "unloaded", "unwritable"}
