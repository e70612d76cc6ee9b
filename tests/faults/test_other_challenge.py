"""Several challenges in order: the next one is tried where one failed, before any back-off."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, invalid
from tests.site import Site

HTTP, TLS = "http-01", "tls-alpn-01"


class Stranger(BaseHTTPRequestHandler):
    """A web server that knows nothing of challenges."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def stranger(port: int) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", port), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def wanted(site: Site, *challenges: str, **settings: Any) -> Site:
    return site.certificate("www", "www.example.com", challenge=list(challenges), **settings)


def watched(ca: FaultyCA) -> list[str]:
    """The challenges that the CA is told to look at, from now on."""
    told: list[str] = []

    def look(_: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status == 200:  # and not a refused nonce
            told.append(reply.json()["type"])
        return reply

    ca.on("challenge", look)
    return told


def test_what_the_ca_did_not_find_by_one_is_proved_by_the_next(
    site: Site, faulty: FaultyCA, caplog: pytest.LogCaptureFixture
) -> None:
    """Pebble's own look, at a web server that is not ours: unauthorized."""
    told = watched(faulty)
    wanted(site, HTTP, TLS, self_check=False)
    site.tables["http"]["listen"] = [f"127.0.0.2:{faulty.http_port}"]
    site.write()
    with stranger(faulty.http_port), Driver(site) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert (lineage.failure, lineage.challenge) == (None, None)
        assert sum(driver.waits) < due.BACKOFF[0].total_seconds()
        assert told == [HTTP, TLS]
        assert "(unauthorized)" in caplog.text
        assert "(next attempt at once, by tls-alpn-01)" in caplog.text
        assert len(faulty.acted_on("new-order")) == 2  # one failed authorization kills an order
        # Nothing is held against the first: the next renewal begins with it again.
        lineage = driver.force("www")
        assert lineage.current is not None
        assert lineage.current.number == 2


def test_what_we_do_not_see_ourselves_is_proved_by_the_next_in_the_same_order(
    site: Site, faulty: FaultyCA
) -> None:
    told = watched(faulty)
    wanted(site, HTTP, TLS, self_check=True)
    site.tables["http"]["listen"] = [f"127.0.0.2:{faulty.http_port}"]
    site.write()
    with stranger(faulty.http_port), Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert told == [TLS]
    assert len(faulty.acted_on("new-order")) == 1


@pytest.mark.parametrize(
    ("first", "then", "port"),
    [
        pytest.param(HTTP, TLS, "http_port", id="port 80"),
        pytest.param(TLS, HTTP, "tls_port", id="port 443"),
    ],
)
def test_a_port_that_cannot_be_had_stops_nothing_where_there_is_another_way(
    first: str, then: str, port: str, site: Site, faulty: FaultyCA
) -> None:
    told = watched(faulty)
    wanted(site, first, then)
    with socket.create_server(("127.0.0.1", getattr(faulty, port))):
        done = site.renew()
    assert "issued, version 1" in done.stdout
    assert told == [then]


def test_when_all_have_failed_it_is_waited_and_begun_anew(site: Site, faulty: FaultyCA) -> None:
    wanted(site, HTTP, TLS)
    faulty.on("authorization", invalid("unauthorized"))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert (lineage.failures, lineage.challenge) == (2, None)
        assert lineage.retry_at is not None
        waits = (lineage.retry_at - driver.now()).total_seconds()
        assert waits > due.BACKOFF[0].total_seconds()
        assert len(faulty.acted_on("new-order")) == 2
        faulty.honest()
        told = watched(faulty)
        assert driver.retry("www").current is not None
    assert told == [HTTP]


@pytest.mark.parametrize("type", ["dns", "caa", "rejectedIdentifier"])
def test_what_no_challenge_helps_against_is_not_tried_by_another(
    type: str, site: Site, faulty: FaultyCA
) -> None:
    wanted(site, HTTP, TLS)
    faulty.on("authorization", invalid(type))
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert (lineage.failures, lineage.challenge) == (1, None)
    assert len(faulty.acted_on("new-order")) == 1


def test_whoever_is_refused_for_caa_by_the_last_begins_anew_with_the_first(
    site: Site, faulty: FaultyCA
) -> None:
    """CAA may permit the first only, where no look from here could tell."""
    wanted(site, HTTP, TLS)
    first, then = invalid("connection"), invalid("caa")
    faulty.on(
        "authorization",
        lambda *way: (first if len(faulty.acted_on("new-order")) == 1 else then)(*way),
    )
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        assert (lineage.failures, lineage.challenge) == (2, None)
        faulty.honest()
        told = watched(faulty)
        assert driver.retry("www").current is not None
    assert told == [HTTP]


def test_the_next_ca_is_asked_only_when_all_have_failed(
    both: Site, faulty: FaultyCA, second: FaultyCA
) -> None:
    told = watched(second)
    wanted(both, HTTP, TLS, ca=["test", "second"])
    faulty.on("authorization", invalid("connection"))
    with Driver(both) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert current.ca == "second"
    assert len(faulty.acted_on("new-order")) == 2
    assert told == [HTTP]
