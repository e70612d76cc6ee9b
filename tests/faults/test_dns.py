"""What DNS shows, or does not, of a record that was written for a CA (faults 28 to 32 and 37)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dns.rcode
import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.faults.namestub import says
from tests.faults.world import HOPS, PREFIX, World, by_dns, left, until, write
from tests.site import Site

NOTHING = {"provider": "exec", "argv": ["true"], "settle": 0}  # says that it has written
SOON = 1.0  # seconds, of a deadline that is waited for


def assert_not_asked(site: Site, ca: FaultyCA, *, ordered: bool = True) -> str:
    """The CA was not told to look, and the order, if there is one, is kept.

    Returns why, as the operator reads it.
    """
    assert ca.seen("challenge") == []
    assert len(ca.acted_on("new-order")) == ordered
    with site.store() as store:
        assert (store.orders.live("www") is not None) == ordered
    entry = site.status()["www"]
    assert entry["state"] == "failing"
    assert entry["next_attempt"]
    error = entry["last_error"]
    return f"{error['what']}: {error['why']}; {error['next']}"


def assert_goes_on(site: Site, ca: FaultyCA) -> None:
    """It is issued in the order that was kept, and nothing is left in DNS."""
    assert "www: issued, version 1" in site.renew("www").stdout
    assert len(ca.acted_on("new-order")) == 1
    assert left(site) == []


@contextmanager
def shorter(limit: float) -> Iterator[None]:
    """Than so many seconds."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < limit


@pytest.mark.fault(row=28)
def test_a_record_that_does_not_appear_is_waited_for_and_the_ca_is_not_told(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(named, "www", "void.example.test")
    named.tables["dns.main"] = {**NOTHING, "timeout": SOON}
    named.write()
    begun = time.monotonic()
    assert named.certd("renew").returncode == 1
    assert time.monotonic() - begun > SOON
    why = assert_not_asked(named, asked)
    assert f"{PREFIX}.void.example.test is not to be seen in time" in why
    assert "0 of 2 name servers of example.test have it" in why
    assert "ns1.example.test has none at 127.0.0.1; ns2.example.test has none at 127.0.0.2" in why
    assert "timeout" in why
    assert "certd renew www" in why
    assert_goes_on(world.at(named, world.quick), asked)


@pytest.mark.fault(row=28)
def test_each_failure_to_appear_is_waited_out_longer_in_the_same_order(
    named: Site, asked: FaultyCA
) -> None:
    by_dns(named, "www", "often.example.test")
    named.tables["dns.main"] = {**NOTHING, "timeout": 0.2}
    named.write()
    with Driver(named) as driver:
        lineage = driver.attempt("www")
        for failures in (1, 2, 3):
            assert lineage.failures == failures
            assert lineage.retry_at is not None
            pause = due.backoff(failures, None, 0.5)
            assert abs(lineage.retry_at - driver.now() - pause).total_seconds() < 20
            lineage = driver.retry("www")
    assert len(asked.acted_on("new-order")) == 1
    assert asked.seen("challenge") == []


@pytest.mark.fault(row=28)
def test_a_name_below_no_zone_is_told_and_the_ca_is_not(named: Site, asked: FaultyCA) -> None:
    by_dns(named, "www", "www.nowhere.example")
    assert named.certd("renew").returncode == 1
    assert "is in no zone" in assert_not_asked(named, asked, ordered=False)
    assert left(named) == []


@pytest.mark.fault(row=29)
def test_name_servers_that_fail_are_waited_for_and_the_ca_is_not_told(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.stub, timeout=SOON), "www", "www.odd.test")
    world.stub.every = says(dns.rcode.SERVFAIL)
    begun = time.monotonic()
    assert named.certd("renew").returncode == 1
    assert time.monotonic() - begun > SOON
    why = assert_not_asked(named, asked)
    assert "ns1.odd.test says SERVFAIL at 127.0.0.1" in why
    world.stub.honest()
    assert_goes_on(named, asked)


@pytest.mark.fault(row=29)
def test_a_resolver_that_fails_is_told_and_the_ca_is_not(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.stub), "www", "www.odd.test")
    named.tables["certd"]["resolver"] = world.stub.dns
    named.write()
    world.stub.every, world.stub.kinds = says(dns.rcode.SERVFAIL), {"CNAME", "SOA", "NS"}
    assert named.certd("renew").returncode == 1
    why = assert_not_asked(named, asked, ordered=False)
    assert f"where {PREFIX}.www.odd.test belongs is not known" in why
    assert f"SERVFAIL, or no answer that can be used, from {world.stub.dns}" in why
    assert "resolver" in why
    assert "the CA was not told" not in why  # it was not even asked for an order
    world.stub.honest()
    assert_goes_on(named, asked)


@pytest.mark.fault(row=30)
def test_the_ca_is_told_once_the_slowest_name_server_has_the_record(
    named: Site, world: World, asked: FaultyCA
) -> None:
    name = f"{PREFIX}.www.slow.test"
    by_dns(world.at(named, world.slow), "www", "www.slow.test")
    by_dns(named, "other", "other.slow.test")
    daemon = named.start("run")
    try:
        until(lambda: "1 of 2 name servers of slow.test have it" in daemon.log.read_text())
        assert "ns2.slow.test has none at 127.0.0.2" in daemon.log.read_text()
        until(lambda: world.slow.values(name))  # it may have been said of the other
        assert asked.seen("challenge") == []
        assert named.status()["www"]["state"] != "failing"
        until(lambda: world.slow.values(f"{PREFIX}.other.slow.test"))
        world.slow.transfer("slow.test")
        until(lambda: named.bundle("www") and named.bundle("other"))
        until(lambda: not left(named))
    finally:
        daemon.stop()
    assert len(asked.acted_on("challenge")) == 2
    assert world.slow.values(name) == []


@pytest.mark.fault(row=30)
def test_a_name_server_that_never_follows_is_named(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.slow, timeout=SOON), "www", "late.slow.test")
    assert named.certd("renew").returncode == 1
    why = assert_not_asked(named, asked)
    assert "1 of 2 name servers of slow.test have it: ns2.slow.test has none" in why
    assert "whether the zone's other servers follow the first" in why


@pytest.mark.fault(row=31)
def test_a_lame_name_server_is_named_and_a_quorum_goes_on_without_it(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.quick, timeout=SOON), "www", "www.lame.test")
    assert named.certd("renew").returncode == 1
    why = assert_not_asked(named, asked)
    assert "2 of 3 name servers of lame.test have it" in why
    assert "ns2.lame.test says REFUSED at 127.0.0.2: it does not serve the zone" in why
    assert 'propagation = "quorum"' in why
    named.tables["dns.main"]["propagation"] = "quorum"
    named.write()
    assert_goes_on(named, asked)


@pytest.mark.fault(row=31)
def test_a_name_server_that_keeps_silent_holds_nothing_up_for_long(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(world.at(named, world.slow, timeout=SOON), "www", "www.slow.test")
    world.slow.pause_secondary()
    try:
        with shorter(30.0):  # two datagrams of two seconds for a look, of which there are few
            assert named.certd("renew").returncode == 1
    finally:
        world.slow.resume_secondary()
    assert "ns2.slow.test does not answer at 127.0.0.2" in assert_not_asked(named, asked)


@pytest.mark.fault(row=32)
@pytest.mark.parametrize(
    ("host", "said"),
    [
        pytest.param("round", f"its aliases go round: {PREFIX}.round.example.test -> ", id="loop"),
        pytest.param("self", "its aliases go round", id="an alias of itself"),
        pytest.param("far", "an alias of an alias, 8 times and on", id=f"{HOPS} hops"),
    ],
)
def test_aliases_without_end_are_told_at_once_and_nothing_is_written(
    host: str, said: str, named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(named, "www", f"{host}.example.test")
    with shorter(20.0):
        assert named.certd("renew").returncode == 1
    why = assert_not_asked(named, asked, ordered=False)
    assert said in why
    assert "CNAME" in why
    assert left(named) == []
    assert world.quick.values("end.keys.test") == []


@pytest.mark.fault(row=32)
def test_eight_aliases_are_followed_and_the_record_is_where_they_end(
    named: Site, world: World, asked: FaultyCA
) -> None:
    at_end: list[str] = []

    def look(_: Exchange, forward: Forward) -> Reply:
        at_end.extend(world.quick.values("end.keys.test"))
        return forward()

    asked.on("challenge", look)
    by_dns(named, "www", "near.example.test")
    assert_goes_on(named, asked)
    assert at_end


@pytest.mark.fault(row=37)
def test_wildcard_and_apex_have_their_values_side_by_side_and_take_only_these_away(
    named: Site, world: World, asked: FaultyCA
) -> None:
    name = f"{PREFIX}.other.test"
    write(world.quick, "other.test", name, "somebody-elses")
    seen: list[set[str]] = []

    def look(_: Exchange, forward: Forward) -> Reply:
        seen.append(set(world.quick.values(name)) & set(world.quick.values_of_secondary(name)))
        return forward()

    asked.on("challenge", look)
    by_dns(named, "www", "other.test", "*.other.test")
    assert_goes_on(named, asked)
    # Both are there before the CA is told of the first.
    assert {len(values) for values in seen} == {3}
    assert all("somebody-elses" in values for values in seen)
    assert world.quick.values(name) == ["somebody-elses"]


@pytest.mark.fault(row=37)
def test_two_certificates_of_one_name_do_not_take_each_others_value_away(
    named: Site, world: World, asked: FaultyCA
) -> None:
    by_dns(named, "apex", "keys.test")
    by_dns(named, "wild", "*.keys.test", "alias.example.test")
    done = named.renew().stdout
    assert "apex: issued" in done
    assert "wild: issued" in done
    assert left(named) == []
    assert world.quick.values(f"{PREFIX}.keys.test") == []
