"""Providers that refuse and fail, and certds that are killed meanwhile (faults 34 to 36)."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from certd import due, react
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.faults.test_dns import assert_goes_on, assert_not_asked
from tests.faults.world import PREFIX, World, by_dns, left, until, write
from tests.http_server import Lost, Request, Response, serving
from tests.site import Site

PERMISSION = "correct user and password"
ADD, REMOVE = "/present", "/cleanup"
STRANGER = "somebody-elses"


@dataclass
class Service:
    """An HTTP service that writes to BIND. ``refused`` has a status for all that is asked there.

    ``faults`` has for a name what it answers at first: a status, or "lost" once it has written.
    """

    world: World
    refused: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # path, name, value
    url: str = ""

    def __call__(self, request: Request) -> Response:
        name, value = request.json["fqdn"].rstrip("."), request.json["value"]
        self.asked.append((request.path, name, value))
        if status := self.refused.get(request.path):
            return Response(status, {"message": "not you"})
        faults = self.faults.get(f"{request.path} {name}", [])
        fault = faults.pop(0) if faults else 0
        if isinstance(fault, int) and fault:
            return Response(fault, {}, {"Retry-After": "0"} if fault == 429 else {})
        zone = ".".join(name.split(".")[-2:])
        write(self.world.quick, zone, name, value, remove=request.path == REMOVE)
        if fault == "lost":
            raise Lost
        return Response(200, {})

    def refuse(self, status: int, *paths: str) -> None:
        self.refused = dict.fromkeys(paths or (ADD, REMOVE), status)

    def added(self) -> list[str]:
        """The names that it was asked for."""
        return [name for path, name, _ in self.asked if path == ADD]

    def account(self) -> dict[str, object]:
        return {"provider": "httpreq", "url": self.url, "settle": 0, "timeout": 20}


@pytest.fixture
def service(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Service(world)
    with serving(made) as made.url:
        yield made


@pytest.fixture
def both(named: Site, service: Service) -> Site:
    """``www`` and ``mail`` are written by the service, ``other`` by [dns.main]."""
    named.tables["dns.shop"] = service.account()
    by_dns(named, "www", "www.example.test", dns="shop")
    by_dns(named, "mail", "mail.example.test", dns="shop")
    return by_dns(named, "other", "other.example.test", dns="main")


@pytest.mark.fault(row=34)
@pytest.mark.parametrize("status", [401, 403])
def test_an_account_that_is_refused_is_not_asked_again_until_certd_renew(
    status: int, both: Site, service: Service, asked: FaultyCA
) -> None:
    service.refuse(status)
    done = both.certd("renew")
    assert done.returncode == 1
    assert "other: issued, version 1" in done.stdout
    assert "[dns.shop]" in done.stdout
    assert PERMISSION in done.stdout
    assert len(asked.acted_on("challenge")) == 1
    before = service.added()
    again = both.certd("renew").stdout
    assert service.added() == before
    # Each says why, and when it is tried again.
    entries = both.status()
    assert f"not tried again before {entries['www']['next_attempt'][:10]}" in again
    assert entries["other"]["state"] == "ok"
    for name in ("www", "mail"):
        assert "a DNS provider refuses the credential" in entries[name]["renew_reason"]
        assert entries[name]["next_attempt"]
    failed = [entries[name]["last_error"] for name in ("www", "mail")]
    assert any(error and PERMISSION in error["next"] for error in failed)
    shown = both.certd("status").stdout
    assert "[dns.shop]" in shown
    assert PERMISSION in shown
    # The operator's word: asked at once, for all of that account.
    service.refused = {}
    assert "www: issued, version 1" in both.renew("www").stdout
    assert "mail: issued, version 1" in both.renew().stdout
    assert left(both) == []


@pytest.mark.fault(row=34)
def test_an_account_that_is_refused_is_asked_again_a_day_later(
    both: Site, service: Service, asked: FaultyCA
) -> None:
    service.refuse(403)
    with Driver(both) as driver:
        lineage = driver.attempt("www")
        assert lineage.failure is not None
        [parked] = lineage.parks.values()
        assert parked.everyone
        assert parked.until is not None
        assert abs(parked.until - driver.now() - react.DAILY).total_seconds() < 60
        assert service.added() == [f"{PREFIX}.www.example.test"]
        service.refused = {}
        driver.wait(react.DAILY.total_seconds())
        assert driver.attempt("www").current is not None
        assert driver.attempt("mail").current is not None


@pytest.mark.fault(row=34)
def test_another_table_of_that_name_is_asked_at_once(
    both: Site, world: World, service: Service
) -> None:
    service.refuse(401)
    assert both.certd("renew").returncode == 1
    both.tables["dns.shop"] = world.account(world.quick)
    both.write()
    done = both.renew().stdout
    assert "www: issued, version 1" in done
    assert "mail: issued, version 1" in done


@pytest.mark.fault(row=35)
def test_what_fails_for_a_moment_is_asked_for_again_and_is_there_once(
    named: Site, world: World, service: Service, asked: FaultyCA
) -> None:
    hosts: dict[str, int | str] = {"slow": 429, "sick": 500, "away": 503, "lost": "lost"}
    for host, fault in hosts.items():
        for path in (ADD, REMOVE):
            service.faults[f"{path} {PREFIX}.{host}.example.test"] = [fault]
    names = {host: f"{PREFIX}.{host}.example.test" for host in hosts}
    for name in names.values():
        write(world.quick, "example.test", name, STRANGER)
    named.tables["dns.main"] = service.account()
    by_dns(named, "www", *(f"{host}.example.test" for host in hosts))
    assert_goes_on(named, asked)
    # Twice the same each: with another value, both would stay.
    assert set(Counter(service.asked).values()) == {2}
    values = defaultdict(set)
    for _, name, value in service.asked:
        values[name].add(value)
    assert {name: len(some) for name, some in values.items()} == dict.fromkeys(names.values(), 1)
    assert all(world.quick.values(name) == [STRANGER] for name in names.values())


@pytest.mark.fault(row=35)
def test_what_goes_on_failing_is_told_and_the_order_is_kept(
    named: Site, service: Service, asked: FaultyCA
) -> None:
    service.refuse(429, ADD)
    named.tables["dns.main"] = {**service.account(), "timeout": 1.5}
    by_dns(named, "www", "busy.example.test")
    assert named.certd("renew").returncode == 1
    why = assert_not_asked(named, asked)
    assert "[dns.main]" in why
    assert "429" in why
    with named.store() as store:
        assert not store.lineages.get("www").parks  # it is no credential that is refused
    service.refused = {}
    assert_goes_on(named, asked)


@pytest.mark.fault(row=36)
@pytest.mark.parametrize(
    "place",
    [
        "dns: record is kept",
        "dns: record is written",
        "dns: records are given up",
        "dns: record is removed",
    ],
)
def test_what_a_killed_certd_has_published_is_taken_away_and_nothing_else(
    place: str, named: Site, world: World, asked: FaultyCA
) -> None:
    name = f"{PREFIX}.other.test"
    write(world.quick, "other.test", name, STRANGER)
    by_dns(named, "www", "other.test", "*.other.test")
    killed = named.certd("renew", CERTD_KILL_AT=place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ours = set(world.quick.values(name)) - {STRANGER}
    with named.store() as store:  # what is there is in the journal, whatever else is
        assert ours <= {kept.record.value for kept in store.records.all()}
    done = named.renew("www").stdout
    assert "www: issued" in done or place in ("dns: record is removed", "dns: records are given up")
    assert world.quick.values(name) == [STRANGER]
    assert left(named) == []
    assert len(asked.acted_on("new-order")) == len(asked.acted_on("finalize")) == 1


@pytest.mark.fault(row=36)
def test_what_is_left_of_a_certificate_that_nobody_wants_any_more_is_taken_away(
    named: Site, world: World, asked: FaultyCA
) -> None:
    name = f"{PREFIX}.gone.example.test"
    by_dns(named, "www", "gone.example.test")
    killed = named.certd("renew", CERTD_KILL_AT="dns: record is written")
    assert killed.returncode == -signal.SIGKILL
    assert len(world.quick.values(name)) == 1
    by_dns(named, "www", "still.example.test")
    named.renew()
    assert world.quick.values(name) == []
    assert left(named) == []


@pytest.mark.fault(row=36)
def test_without_certificate_it_is_taken_away_and_without_account_that_is_told(
    named: Site, world: World
) -> None:
    name = f"{PREFIX}.ended.example.test"
    by_dns(named, "ended", "ended.example.test")
    assert named.certd("renew", CERTD_KILL_AT="dns: record is written").returncode < 0
    account = named.tables.pop("dns.main")
    del named.tables["certificate.ended"]
    named.write()
    named.renew()
    shown = named.certd("status").stdout
    assert f"{name} " in shown
    assert "there is no table [dns.main] any more" in shown
    assert left(named) == [name]
    named.tables["dns.main"] = account
    named.write()
    with Driver(named) as driver:
        driver.wait(due.BACKOFF[0].total_seconds() + 1)
        driver.tidy()
        until(lambda: not driver.store.records.all())
    assert world.quick.values(name) == []


@pytest.mark.fault(row=36)
def test_what_cannot_be_taken_away_is_told_and_is_once_that_is_possible(
    named: Site, world: World, service: Service, asked: FaultyCA
) -> None:
    name = f"{PREFIX}.left.example.test"
    named.tables["dns.main"] = service.account()
    by_dns(named, "www", "left.example.test")
    service.refuse(400, REMOVE)
    assert "www: issued" in named.renew().stdout  # which is all the same
    assert left(named) == [name]
    with Driver(named) as driver:

        def failures() -> list[int]:
            return [kept.failures for kept in driver.store.records.all()]

        assert failures() == [1]
        driver.wait(due.BACKOFF[0].total_seconds() + 1)
        driver.tidy()
        until(lambda: failures() == [2])
        driver.tidy()  # too early
        service.refused = {}
        driver.wait(due.BACKOFF[1].total_seconds() + 1)
        driver.tidy()
        until(lambda: not failures())
    assert world.quick.values(name) == []
    assert len(service.asked) == 4
