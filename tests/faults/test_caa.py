"""CAA: what a CA refused for is looked up and shown, and who may not issue is not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from certd.challenges.caa import CAARecord, CAASet, look_up
from certd.challenges.resolving import Unresolved
from certd.testing import pebble_binary
from certd.testing.challtestsrv import ChallTestSrv
from certd.testing.exchanges import Act, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver, invalid
from tests.site import Site

NAME = "www.shop.example"
DAY = timedelta(days=1)


@pytest.fixture
def zone(
    _pebble_binaries: pebble_binary.Binaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChallTestSrv]:
    dns = ChallTestSrv(_pebble_binaries.challtestsrv, tmp_path_factory.mktemp("zone"))
    try:
        yield dns
    finally:
        dns.stop()


@pytest.fixture
def three(both: Site, faulty: FaultyCA, second: FaultyCA, zone: ChallTestSrv) -> Site:
    """``www``, wanted from three CAs: the last two are one, under two names."""
    both.tables["ca.third"] = both.tables["ca.second"]
    both.tables["certd"]["resolver"] = zone.dns
    both.certificate("www", NAME, ca=["test", "second", "third"])
    faulty.on("directory", known_as("first.example"))
    second.on("directory", known_as("second.example"))
    return both


def known_as(*identities: str) -> Act:
    return lambda _, forward: forward().but(meta={"caaIdentities": list(identities)})


def test_what_was_found_is_shown_and_nobody_is_asked_in_vain(
    three: Site, faulty: FaultyCA, second: FaultyCA, zone: ChallTestSrv
) -> None:
    zone.add_caa("shop.example", "issue", "other.example")
    with Driver(three) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert 'CAA of shop.example: 0 issue "other.example"' in lineage.failure.why
        assert 'shop.example. CAA 0 issue "first.example"' in lineage.failure.next
        assert lineage.retry_at is not None
        assert DAY * 0.95 < lineage.retry_at - driver.now() <= DAY * 1.1
        assert not [*faulty.seen("new-order"), *second.seen("new-order")]
        zone.clear_caa("shop.example")
        current = driver.retry("www").current
        assert current is not None
        assert current.ca == "test"


def test_a_ca_that_caa_allows_is_asked_at_once(
    three: Site, faulty: FaultyCA, second: FaultyCA, zone: ChallTestSrv
) -> None:
    """At finalize too, where the records are looked at again."""
    zone.add_caa(NAME, "issue", "Second.example; validationmethods=http-01")
    refusal = Reply.problem(403, "caa", "CAA forbids it")
    faulty.on("finalize", lambda _, __: refusal)
    with Driver(three) as driver:
        current = driver.attempt("www").current
        assert current is not None
        assert current.ca == "second"


def test_the_one_in_between_that_it_forbids_is_passed_over(
    three: Site, faulty: FaultyCA, second: FaultyCA, zone: ChallTestSrv
) -> None:
    three.tables["ca.own"] = {"type": "local"}
    three.certificate("www", NAME, ca=["test", "third", "own"])
    zone.add_caa(NAME, "issue", ";")
    faulty.on("authorization", invalid("caa"))
    done = three.certd("ca", "init", "--ca", "own")
    assert done.returncode == 0, done.stderr
    with Driver(three) as driver:
        lineage = driver.attempt("www")
        assert lineage.current is not None
        assert lineage.current.ca == "own"  # a CA of one's own looks at no CAA
    assert not second.seen("new-order")


def test_what_cannot_be_looked_up_is_said(
    three: Site, faulty: FaultyCA, second: FaultyCA, zone: ChallTestSrv
) -> None:
    zone.set_servfail(NAME)
    faulty.on("authorization", invalid("caa"))
    with Driver(three) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        assert f"CAA of {NAME} was looked up in vain" in lineage.failure.why
    assert not second.seen("new-order")


def test_records_that_allow_it_are_no_riddle(
    three: Site, faulty: FaultyCA, zone: ChallTestSrv
) -> None:
    faulty.on("authorization", invalid("caa"))
    with Driver(three) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        assert f"{NAME} and its parents have no CAA records" in failure.why


def test_the_nearest_set_is_the_relevant_one(zone: ChallTestSrv) -> None:
    host, _, port = zone.dns.partition(":")
    server = [(host, int(port))]
    assert look_up("a.b.example", server) == CAASet("a.b.example")
    zone.add_caa("b.example", "issue", "x.example")
    far = CAASet("b.example", (CAARecord(0, "issue", "x.example"),))
    assert look_up("a.b.example", server) == far
    assert look_up("*.b.example", server) == far
    zone.add_caa("a.b.example", "iodef", "mailto:x@example.com")
    assert look_up("a.b.example", server).owner == "a.b.example"
    zone.stop()
    with pytest.raises(Unresolved):
        look_up("a.b.example", server, 0.5)


def test_of_several_resolvers_one_may_be_away(
    zone: ChallTestSrv, free_port: Callable[[], int]
) -> None:
    host, _, port = zone.dns.partition(":")
    zone.add_caa("b.example", "issue", "x.example")
    servers = [(host, free_port()), (host, int(port))]
    assert look_up("b.example", servers).owner == "b.example"


ISSUE = CAARecord(0, "issue", "a.example")
WILD = CAARecord(0, "issuewild", " B.example. ; account=1")
NONE = CAARecord(0, "issue", ";")
IODEF = CAARecord(0, "iodef", "mailto:x@example.com")
STRANGE = CAARecord(128, "tbs", "unknown")


@pytest.mark.parametrize(
    ("records", "wildcard", "allowed"),
    [
        pytest.param((), False, "abc", id="no records"),
        pytest.param((IODEF,), False, "abc", id="none about issuing"),
        pytest.param((ISSUE,), False, "a", id="one"),
        pytest.param((ISSUE,), True, "a", id="for wildcards too"),
        pytest.param((ISSUE, WILD), False, "a", id="not the wildcard's"),
        pytest.param((ISSUE, WILD), True, "b", id="the wildcard's only"),
        pytest.param((WILD,), False, "abc", id="wildcards only"),
        pytest.param((NONE,), False, "", id="nobody"),
        pytest.param((NONE, ISSUE), False, "a", id="nobody and one"),
        pytest.param((ISSUE, STRANGE), False, "", id="critical, and nobody knows it"),
        pytest.param((ISSUE, CAARecord(128, "iodef", "x")), False, "a", id="critical and known"),
        pytest.param((CAARecord(0, "tbs", "x"), ISSUE), False, "a", id="unknown"),
    ],
)
def test_whom_a_set_allows(records: tuple[CAARecord, ...], wildcard: bool, allowed: str) -> None:
    found = CAASet("x", records)
    have = [ca for ca in "abc" if found.allows((f"{ca}.example",), wildcard=wildcard)]
    assert "".join(have) == allowed
    assert found.allows((), wildcard=wildcard) == (allowed == "abc")
