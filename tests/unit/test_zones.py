"""The records of DNS challenges in this process: whose turn it is, what waits for what, and that
nothing stays behind. A zone is a set in memory; a time is only waited for to see that it is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from certd import due, setback
from certd.api import Secret
from certd.budget import NO_LIMITS, Limit
from certd.ca.resources import CAChallenge
from certd.challenges import background
from certd.challenges.view import Vantage, View, vantage
from certd.cli.main import group
from certd.config import Config, DNSSettings, ListenAddress
from certd.config.values import HTTPSettings
from certd.engine import changing
from certd.engine.changing import LOCKS, Changing
from certd.engine.publishing import Showing
from certd.engine.zones import Zones
from certd.errors import ChallengeError, ProviderBusy, ProviderDenied, ProviderError
from certd.known import Failure, Lineage, Order, Park
from certd.model import CertificateSpec, DNSChallenge, Identifier, TxtRecord
from certd.setback import Attempt
from certd.store import FileLock, Store
from certd.store.glance import stuck
from tests.site import Site

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LONG = 20.0  # seconds that a test waits for what comes at once; on a busy machine too
ZONE = "example.test"
DENIED = ProviderDenied("refuses the credential", "403", "let it edit the zone")


def now() -> datetime:
    return datetime.now(UTC)


# -- providers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
    """A zone. What is in ``hanging`` waits for ``back``; ``errors`` are raised in turn."""

    has: set[tuple[str, str]] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    back: threading.Event = field(default_factory=threading.Event)
    errors: list[Exception] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def add_txt(self, record: TxtRecord) -> None:
        self.called("add", record)
        self.has.add((record.name, record.value))

    def remove_txt(self, record: TxtRecord) -> None:
        self.called("remove", record)
        self.has.discard((record.name, record.value))

    def called(self, what: str, record: TxtRecord) -> None:
        self.calls.append((what, record.name))
        self.maybe_hang(what, f"{what} {record.name}")
        if self.errors:
            raise self.errors.pop(0)

    def maybe_hang(self, *what: str) -> None:
        if not self.hanging.isdisjoint(what):
            assert self.back.wait(3 * LONG)


@dataclass(frozen=True, slots=True)
class Telling(Memory):
    """It tells its zones, the names that it can write, and whether they are there."""

    def zones(self) -> set[str]:
        self.calls.append(("zones", ""))
        self.maybe_hang("zones")
        if self.errors:
            raise self.errors.pop(0)
        return {ZONE}

    def names(self) -> set[str]:
        self.maybe_hang("names")
        return {f"_acme-challenge.{name}.{ZONE}" for name in ("www", "a", "b")}

    def settled(self, record: TxtRecord) -> bool:
        self.maybe_hang("settled")
        return True


@dataclass(frozen=True, slots=True)
class Two(Memory):
    most_values: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Meeting:
    """Each change looks for so long whether another is at it at the same time."""

    exclusive: ClassVar[str] = "name"
    barrier: threading.Barrier
    met: list[str] = field(default_factory=list)

    def add_txt(self, record: TxtRecord) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait()
            self.met.append(record.name)

    def remove_txt(self, record: TxtRecord) -> None:
        raise AssertionError


@dataclass(frozen=True, slots=True)
class MeetingInZone(Meeting):
    exclusive: ClassVar[str] = "zone"


# -- what it takes ------------------------------------------------------------------------------


def account(name: str, plugin: Any, **more: Any) -> DNSSettings:
    usual = {"provider": "memory", "propagation": "wait", "timeout": LONG, "settle": 0.0}
    return DNSSettings(name=name, plugin=plugin, **{**usual, **more})


def record(label: str, value: str = "value", zone: str = ZONE) -> TxtRecord:
    return TxtRecord(zone, f"{label}.{zone}", value, 60)


def spec(name: str, table: str, **more: Any) -> CertificateSpec:
    usual = {"challenges": ("dns-01",), "dns": (("*", table),)}
    return CertificateSpec(
        name, (Identifier("dns", f"{name}.{ZONE}"),), ("test",), **{**usual, **more}
    )


def challenge(token: str, kind: str = "dns-01") -> CAChallenge:
    url = f"https://ca.example/{token}"
    return CAChallenge(url, kind, "pending", token, Secret(token), "", None)


class Desk:
    """Of one process: tables, and a certificate of each name for each of them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.store = Store.open(state)
        self.config = Config(
            *(state / "certd.toml", state, (), 1, {}, HTTPSettings(), {}, {}, "digest")
        )
        self.zones = Zones(self.config, self.store, lambda *_: None, lambda _: None, now)

    def follow(self, *tables: DNSSettings) -> None:
        self.config = replace(self.config, dns={one.name: one for one in tables})
        self.zones.follow(self.config)

    def publish(
        self, table: str, name: str, token: str = "token", host: str = "", kind: str = "dns-01"
    ) -> Future[None]:
        """The record of this certificate's name, or of that host."""
        config = replace(self.config, certificates={name: spec(name, table)})
        identifier = Identifier("dns", f"{host or name}.{ZONE}")
        return self.zones.publish(name, identifier, challenge(token, kind), config)

    def unwanted(self, table: str, *some: TxtRecord) -> None:
        """They were published, and nobody waits for them any more."""
        for one in some:
            self.store.records.publish("www", table, one, now())
        self.store.records.give_up("www")

    def swept(self) -> None:
        self.zones.removals.sweep()
        assert self.zones.removals.finish(LONG)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """In a DNS without aliases."""

    async def place(_: View, name: str, __: Vantage) -> tuple[str, str]:
        return name, ZONE

    monkeypatch.setattr(View, "place", place)
    desk = Desk(tmp_path)
    yield desk
    desk.zones.stop()
    desk.store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than a test can."""
    monkeypatch.setattr(changing, "FIRST", 0.05)
    monkeypatch.setattr(changing, "LEAST", 0.1)
    monkeypatch.setattr(background, "LAST", 0.1)


@pytest.fixture
def back() -> Iterator[threading.Event]:
    """Set, all that hangs comes back; as it does at the end."""
    event = threading.Event()
    yield event
    event.set()


def failure(future: Future[None], seconds: float = LONG) -> str:
    error = future.exception(seconds)
    assert isinstance(error, ProviderError), error
    return str(error)


# -- a provider that makes name and value itself -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raw:
    wants_challenge: ClassVar[bool] = True

    asked: list[tuple[str, DNSChallenge | None]] = field(default_factory=list)

    def add_txt(self, record: TxtRecord) -> None:
        self.asked.append(("add", record.challenge))

    def remove_txt(self, record: TxtRecord) -> None:
        self.asked.append(("remove", record.challenge))


def test_who_makes_the_value_itself_has_the_challenge_also_after_a_crash(desk: Desk) -> None:
    plugin = Raw()
    desk.follow(account("main", plugin))
    desk.publish("main", "www", "token.thumbprint", host="*.www").result(LONG)
    with contextlib.closing(Store.open(desk.state)) as store:  # another certd finds it
        store.records.give_up("www")
    desk.swept()
    made_of = DNSChallenge(f"www.{ZONE}", Secret("token.thumbprint"))
    assert plugin.asked == [("add", made_of), ("remove", made_of)]


def test_nobody_else_is_told_a_key_authorization(desk: Desk) -> None:
    """Nor is it kept; and of another challenge than dns-01 the value would be at another name."""
    kinds = {"main": Raw(), "plain": Memory()}
    desk.follow(*(account(name, plugin) for name, plugin in kinds.items()))
    desk.publish("plain", "www").result(LONG)
    desk.publish("main", "www", kind="dns-account-01").result(LONG)
    assert [one.record.challenge for one in desk.store.records.all()] == [None, None]


# -- a provider that hangs ----------------------------------------------------------------------


def test_whatever_of_a_provider_hangs_ends_within_the_timeout(
    desk: Desk, back: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "LEAST", 0.1)
    hanging = ("add", "zones", "names", "settled")
    plugins = [Telling(hanging={one}, back=back) for one in hanging]
    desk.follow(
        account("well", Telling()),
        *(
            account(one, plugin, provider=one, timeout=2.0)
            for one, plugin in zip(hanging, plugins, strict=True)
        ),
    )
    began = time.monotonic()
    # Several of each: none is to wait for the ends of the others.
    futures = {(one, n): desk.publish(one, n) for one in hanging for n in ("a", "b", "www")}
    desk.publish("well", "www").result(LONG)  # meanwhile
    for (one, _), future in futures.items():
        text = failure(future)
        assert text.startswith(f"[dns.{one}] does not come to an end"), text
    assert time.monotonic() - began < 5.9  # one after the other: 6
    assert [len(plugin.has) for plugin in plugins] == [0, 0, 0, 3]


def test_the_zones_are_asked_for_once_and_each_is_told_by_itself(
    desk: Desk, back: threading.Event
) -> None:
    """Who gets an error may add to it."""
    plugin = Telling(hanging={"zones"}, back=back, errors=[DENIED])
    desk.follow(account("main", plugin))
    futures = [desk.publish("main", name) for name in ("a", "b", "www")]
    with pytest.raises(TimeoutError):
        futures[0].result(0.1)
    back.set()
    errors = [future.exception(LONG) for future in futures]
    assert [getattr(error, "account", "") for error in errors] == ["main"] * 3
    assert len(set(map(id, errors))) == 3
    assert plugin.calls == [("zones", "")]
    for name in ("a", "b"):  # a refusal is not remembered, an answer is
        desk.publish("main", name).result(LONG)
    assert plugin.calls.count(("zones", "")) == 2


def test_a_change_that_hangs_keeps_no_other_waiting(desk: Desk, back: threading.Event) -> None:
    """Of the same account, or of another account of that provider."""
    plugin = Memory(hanging={f"add _acme-challenge.a.{ZONE}"}, back=back)
    desk.follow(account("main", plugin), account("other", plugin))
    hung = desk.publish("main", "a")
    desk.publish("main", "b").result(LONG)
    desk.publish("other", "c").result(LONG)
    assert not hung.done()
    assert sorted(name for name, _ in plugin.has) == [
        f"_acme-challenge.{name}.{ZONE}" for name in "bc"
    ]


@pytest.mark.usefixtures("quick")
def test_what_hung_leaves_nothing_behind_when_it_comes_back(
    desk: Desk, back: threading.Event
) -> None:
    """Its removal waits until it is back, and does not overtake it."""
    plugin = Memory(hanging={"add"}, back=back)
    desk.follow(account("main", plugin, timeout=0.3))
    failure(desk.publish("main", "www"))
    desk.zones.give_up("www")
    assert not desk.zones.removals.finish(0.2)
    assert [what for what, _ in plugin.calls] == ["add"]
    back.set()
    assert desk.zones.removals.finish(LONG)
    assert [what for what, _ in plugin.calls] == ["add", "remove"]
    assert (plugin.has, desk.store.records.all()) == (set(), [])


@pytest.mark.parametrize(
    ("journal", "done"),
    [
        pytest.param("", {"remove"}, id="in none"),
        pytest.param("unwanted", {"remove"}, id="not wanted any more"),
        pytest.param("wanted", {"add"}, id="wanted"),
        pytest.param("by another", {"add"}, id="not by who had it first, but by another"),
    ],
)
def test_whether_a_change_is_wanted_counts_when_its_turn_comes(
    desk: Desk, journal: str, done: set[str]
) -> None:
    plugin, records = Memory(), desk.store.records
    main = account("main", plugin)
    if journal:
        records.publish("www", "main", record("www"), NOW)
    if journal in ("unwanted", "by another"):
        records.give_up("www")
    if journal == "by another":
        records.publish("other", "main", record("www"), NOW)
    for what in ("add", "remove"):
        desk.zones.change(what, main, record("www"), LONG).result(LONG)
    assert {what for what, _ in plugin.calls} == done


def test_stopping_does_not_wait_for_a_provider_that_hangs(
    desk: Desk, back: threading.Event
) -> None:
    desk.follow(account("main", Memory(hanging={"add", "remove"}, back=back)))
    adding = desk.publish("main", "a")
    desk.unwanted("main", record("www"))
    desk.zones.removals.sweep()
    assert not desk.zones.removals.finish(0.1)
    began = time.monotonic()
    desk.zones.stop()
    assert time.monotonic() - began < LONG
    assert adding.cancelled()
    # What nobody knows the end of is still in the journal.
    assert {one.record.name for one in desk.store.records.all()} == {
        f"_acme-challenge.a.{ZONE}",
        f"www.{ZONE}",
    }


# -- one at a time ------------------------------------------------------------------------------


def lock_of(place: str) -> int:
    return zlib.crc32(place.encode()) % LOCKS


@pytest.mark.parametrize(
    ("kind", "names", "meet"),
    [
        pytest.param(MeetingInZone, ("a", "b"), False, id="one zone"),
        pytest.param(Meeting, ("a", "a"), False, id="one name"),
        pytest.param(Meeting, ("a", "b"), True, id="two names"),
    ],
)
def test_two_tables_of_one_provider_write_one_at_a_time(
    desk: Desk, kind: type[Meeting], names: tuple[str, str], meet: bool
) -> None:
    assert lock_of(f"a.{ZONE}") != lock_of(f"b.{ZONE}")
    plugin = kind(threading.Barrier(2, timeout=LONG if meet else 0.2))
    changes = []
    for table, name in zip(("one", "two"), names, strict=True):
        desk.store.records.publish("www", table, record(name, table), NOW)
        changes.append(desk.zones.change("add", account(table, plugin), record(name, table), LONG))
    for change in changes:
        change.result(LONG)
    assert bool(plugin.met) is meet


@pytest.mark.usefixtures("quick")
def test_a_change_waits_while_another_process_is_at_it(desk: Desk) -> None:
    plugin = Memory()
    main = account("main", plugin, rate=None)
    desk.store.records.publish("www", "main", record("www"), NOW)
    (desk.state / "dns").mkdir()
    held = [FileLock(desk.state / "dns" / f"memory-{number}.lock") for number in range(LOCKS)]
    assert all(lock.try_acquire("another") for lock in held)
    change = desk.zones.change("add", main, record("www"), LONG)
    with pytest.raises(TimeoutError):
        change.result(0.3)  # it was tried some times
    assert plugin.calls == []
    for lock in held:
        lock.release()
    change.result(LONG)
    assert plugin.calls == [("add", f"www.{ZONE}")]


@pytest.mark.usefixtures("quick")
def test_the_wait_for_another_process_has_an_end(desk: Desk) -> None:
    desk.store.records.publish("www", "main", record("www"), NOW)
    (desk.state / "dns").mkdir()
    number = lock_of(f"www.{ZONE}")
    with contextlib.ExitStack() as stack:
        lock = FileLock(desk.state / "dns" / f"memory-{number}.lock")
        assert lock.try_acquire("another")
        stack.callback(lock.release)
        change = desk.zones.change("add", account("main", Memory()), record("www"), 0.5)
        assert "by another certd" in failure(change)


@pytest.mark.usefixtures("quick")
def test_a_call_of_our_own_that_hangs_is_nobody_elses(desk: Desk, back: threading.Event) -> None:
    main = account("main", Memory(hanging={"add"}, back=back))
    desk.store.records.publish("www", "main", record("www"), NOW)
    first = desk.zones.change("add", main, record("www"), 0.2)
    assert "does not come to an end" in failure(first)
    second = desk.zones.change("add", main, record("www"), 0.2)
    text = failure(second)
    assert "has not come to an end with an earlier call" in text
    assert "another certd" not in text


def test_whoever_waits_for_the_rate_is_not_late(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passing failure after the wait is tried again as if there had been none."""
    monkeypatch.setattr(changing, "FIRST", 0.05)
    plugin = Memory()
    main = account("main", plugin, rate=Limit(1, timedelta(seconds=0.8)))
    some = [record(name) for name in ("a", "b")]
    for one in some:
        desk.store.records.publish("www", "main", one, NOW)
    desk.zones.change("add", main, some[0], 0.6).result(LONG)
    plugin.errors.append(ProviderBusy("is busy"))
    desk.zones.change("add", main, some[1], 0.6).result(LONG)
    assert {name for name, _ in plugin.has} == {one.name for one in some}


@pytest.mark.parametrize(
    ("names", "rate", "patience"),
    [
        pytest.param(1, None, LONG, id="no rate"),
        pytest.param(100, Limit(1, timedelta(seconds=10)), LONG + 1000, id="a slow one"),
        pytest.param(1, Limit(20, timedelta(seconds=20)), LONG + 1, id="a quick one"),
    ],
)
def test_the_order_is_kept_for_as_long_as_its_records_take_by_the_rate(
    desk: Desk, names: int, rate: Limit | None, patience: float
) -> None:
    """Given back earlier, all of them would be written from the first one on again, and again."""
    hosts = tuple(Identifier("dns", f"{number}.{ZONE}") for number in range(names))
    desk.follow(account("main", Memory(), rate=rate), account("other", Memory(), timeout=1.0))
    wanted = {"www": replace(spec("www", "main"), identifiers=hosts)}
    showing = Showing(desk.config, desk.store, lambda _: None, desk.zones)
    shown = showing.publisher(replace(desk.config, certificates=wanted))
    assert shown.patience("www") == patience
    assert shown.patience("unknown") == 0.0


@pytest.mark.parametrize(
    ("own", "general", "asked"),
    [
        pytest.param(("192.0.2.1", "192.0.2.2"), ("192.0.2.9", 53), ["1", "2"], id="its own"),
        pytest.param((), ("192.0.2.9", 53), ["9"], id="that of all"),
        pytest.param((), None, [], id="this machine's"),
    ],
)
def test_from_where_an_accounts_zones_are_looked_at(
    desk: Desk, own: tuple[str, ...], general: tuple[str, int] | None, asked: list[str]
) -> None:
    """A network that has zones of its own sees others than the CA does: public ones are asked."""
    table = account("main", Memory(), resolvers=tuple(ListenAddress(host, 53) for host in own))
    resolver = ListenAddress(*general) if general else None
    config = replace(desk.config, resolver=resolver, name_server_port=5353)
    found = vantage(config, table)
    assert [host.removeprefix("192.0.2.") for host, _ in found.resolvers] == asked
    assert found.port == 5353


# -- room for few values ------------------------------------------------------------------------


def rooms(desk: Desk, table: DNSSettings, *who: tuple[str, str], waiting: int) -> list[str]:
    """Whom of these (certificate, value) it lets in; "no" for who is told off. So many wait."""

    async def all_of_them() -> list[str]:
        one = Changing(desk.store, desk.state / "dns", now)
        tasks = [
            asyncio.ensure_future(one.room(name, table, record("www", value)))
            for name, value in who
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONG):
                while sum(not task.done() for task in tasks) > waiting:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        await asyncio.wait(tasks, timeout=0.2)  # nor does anybody else go on
        found = [
            "waits" if not task.done() else "no" if task.exception() else "in" for task in tasks
        ]
        for task in tasks:
            task.cancel()
        return found

    return asyncio.run(all_of_them())


ROOMS = [
    pytest.param([("a", "1"), ("a", "2")], ["in", "in"], id="two of one certificate"),
    pytest.param([("a", "1"), ("a", "2"), ("a", "3")], ["in", "in", "no"], id="three of one"),
    pytest.param(
        [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4")],
        ["in", "in", "waits", "waits"],
        id="two of two",
    ),
    pytest.param(
        [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")],
        ["in", "waits", "in", "waits"],
        id="two of two, among each other",
    ),
    pytest.param([("a", "1"), ("b", "2")], ["in", "waits"], id="one each"),
    pytest.param([("a", "1"), ("b", "1")], ["in", "in"], id="one that two share"),
]


@pytest.mark.parametrize("owner", ["", "rehearsal "])
@pytest.mark.parametrize(("who", "told"), ROOMS)
def test_certificates_take_turns_where_there_is_room_for_few(
    desk: Desk, who: list[tuple[str, str]], told: list[str], owner: str
) -> None:
    desk.store.records = desk.store.records.apart(owner)
    for at, (name, value) in enumerate(who):
        desk.store.records.publish(name, "two", record("www", value), NOW + at * DAY)
    assert (
        rooms(desk, account("two", Two(), timeout=600.0), *who, waiting=told.count("waits")) == told
    )


@pytest.mark.usefixtures("quick")
def test_whose_turn_comes_goes_on(desk: Desk) -> None:
    plugin = Two()
    desk.follow(account("two", plugin))
    first = [desk.publish("two", "a", f"a{n}", host="www") for n in range(2)]
    for future in first:
        future.result(LONG)
    second = [desk.publish("two", "b", f"b{n}", host="www") for n in range(2)]
    with pytest.raises(TimeoutError):
        second[0].result(0.2)
    assert len(plugin.has) == 2
    desk.zones.give_up("a")
    for future in second:
        future.result(LONG)
    assert len(plugin.has) == 2
    desk.zones.give_up("b")
    assert desk.zones.removals.finish(LONG)
    assert (plugin.has, desk.store.records.all()) == (set(), [])


# -- the journal --------------------------------------------------------------------------------


@pytest.mark.parametrize("given_up", [True, False], ids=["unwanted", "wanted"])
def test_what_was_to_be_removed_is_new_when_it_is_published(desk: Desk, given_up: bool) -> None:
    records = desk.store.records
    assert records.publish("www", "main", record("www"), NOW) == NOW
    if given_up:
        records.give_up("www")
        [kept] = records.all()
        records.later(kept, Failure("x", "y", "z", NOW), NOW + DAY)
    since = NOW + DAY if given_up else NOW
    assert records.publish("www", "main", record("www"), NOW + DAY) == since
    [kept] = records.all()
    assert kept.created_at == since
    assert (kept.unwanted, kept.failures, kept.retry_at, kept.failure) == (False, 0, None, None)


def begin(store: Store, name: str) -> Order:
    store.lineages.take_over({name: spec(name, "main")}, "digest")
    assert store.leases.claim([name]) == [name]
    names = spec(name, "main").identifiers
    url = "https://ca.example/dir"
    return store.orders.begin(name, "test", url, names, "ec-p256", Secret("key"), "csr", None, NOW)


@pytest.mark.parametrize(
    ("state", "age", "given_up"),
    [
        pytest.param("live", DAY / 24, False, id="of a live order"),
        pytest.param("live", 99 * DAY, False, id="of a live order, however old"),
        pytest.param("held", 99 * DAY, False, id="not wanted any more, but worked on"),
        pytest.param("left", DAY / 24, True, id="of an order that nobody goes on with"),
        pytest.param("over", DAY / 24, True, id="of an order that is over"),
        pytest.param("none", DAY / 24, False, id="of a rehearsal that may go on"),
        pytest.param("none", 2 * DAY, True, id="of a rehearsal long ago"),
    ],
)
def test_a_record_is_given_up_when_nobody_waits_for_it(
    desk: Desk, state: str, age: timedelta, given_up: bool
) -> None:
    store = desk.store
    if state != "none":
        order = begin(store, "www")
        if state == "over":
            store.orders.end(order, "failed", "why", NOW)
        if state != "held":
            store.leases.release("www", NOW)
        if state in ("held", "left"):
            store.lineages.take_over({}, "other")
    store.records.publish("www", "main", record("www"), NOW - age)
    store.records.give_up_orphaned(NOW)
    assert [one.unwanted for one in store.records.all()] == [given_up]


# -- removing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "gone"),
    [
        pytest.param({"ns1": (), "ns2": ("other",)}, True, id="no name server has it"),
        pytest.param({"ns1": (), "ns2": None}, True, id="none of those that answer"),
        pytest.param({"ns1": (), "ns2": ("other", "value")}, False, id="one has it"),
        pytest.param({"ns1": None, "ns2": None}, False, id="none answers"),
        pytest.param({}, False, id="there is none"),
    ],
)
def test_without_its_table_a_record_is_withdrawn_once_it_is_gone(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, tuple[str, ...] | None],
    gone: bool,
) -> None:
    async def values(_: View, name: str, __: Vantage) -> dict[str, tuple[str, ...] | None]:
        assert name == f"www.{ZONE}"
        return answers

    monkeypatch.setattr(View, "values", values)
    desk.unwanted("left", record("www"))
    desk.swept()
    kept = desk.store.records.all()
    assert bool(kept) is not gone
    for one in kept:
        assert one.failure is not None
        assert "there is no table [dns.left] any more" in str(one.failure)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        pytest.param(ProviderError("said no", "", ""), timedelta(minutes=1), id="refused"),
        pytest.param(DENIED, DAY, id="the credential"),
        pytest.param(ProviderBusy("is busy", "", "", 3600.0), DAY / 24, id="as long as it says"),
    ],
)
def test_a_removal_that_fails_is_shown_and_tried_again(
    desk: Desk, error: Exception, again: timedelta
) -> None:
    plugin = Memory({(f"www.{ZONE}", "value")}, errors=[error])
    desk.follow(account("main", plugin))
    desk.unwanted("main", record("www"))
    before = now()
    desk.swept()
    [one] = stuck(desk.state)
    assert (one.name, one.account) == (f"www.{ZONE}", "main")
    assert one.failure.what.startswith("[dns.main]")
    assert one.retry_at is not None
    assert before + again <= one.retry_at <= now() + again
    desk.swept()  # it is not due
    assert len(plugin.calls) == 1
    begin(desk.store, "www")
    desk.store.lineages.retry_now("www", now(), force=False)  # lifts what holds for all
    desk.swept()
    assert (stuck(desk.state), plugin.has, desk.store.records.all()) == ([], set(), [])


@pytest.mark.parametrize(
    ("failures", "answers", "over"),
    [
        pytest.param(4, {"ns1": (), "ns2": ("other",)}, True, id="gone, and refused for a day"),
        pytest.param(3, {"ns1": (), "ns2": ("other",)}, False, id="gone, not refused for long"),
        pytest.param(4, {"ns1": (), "ns2": ("value",)}, False, id="still there"),
        pytest.param(4, {"ns1": (), "ns2": None}, False, id="one does not say"),
        pytest.param(4, {}, False, id="nobody to ask"),
        pytest.param(4, None, False, id="not known where it belongs"),
    ],
)
def test_what_a_provider_cannot_remove_is_over_once_it_is_gone(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    answers: dict[str, tuple[str, ...] | None] | None,
    over: bool,
) -> None:
    """The zone was given up, or moved to another account: it would be refused for ever."""

    async def values(*_: object) -> dict[str, tuple[str, ...] | None]:
        if answers is None:
            raise ChallengeError("it is in no zone", "", "")
        return answers

    monkeypatch.setattr(View, "values", values)
    desk.follow(account("main", Memory(errors=[ProviderError("has no such zone", "", "")])))
    desk.unwanted("main", record("www"))
    for _ in range(failures):
        [kept] = desk.store.records.all()
        desk.store.records.later(kept, Failure("x", "y", "z", NOW), NOW)
    desk.swept()
    assert (desk.store.records.all() == []) is over


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_status_shows_what_is_still_in_its_zone(tmp_path: Path, as_json: bool) -> None:
    site = Site(tmp_path, None)
    with contextlib.closing(Store.open(site.state)) as store:
        store.records.publish("www", "main", record("www"), NOW)
        store.records.give_up("www")
        [kept] = store.records.all()
        at = now() + DAY + timedelta(minutes=1)
        store.records.later(kept, Failure("[dns.main] said no", "403", "allow it", NOW), at)
        store.records.publish("other", "main", record("other"), NOW)  # one that is in use
    words = ["--config", str(site.path), "status", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, result.output
    if as_json:
        [shown] = json.loads(result.stdout)["dns_records"]
        assert (shown["name"], shown["account"]) == (f"www.{ZONE}", "main")
        assert shown["last_error"]["what"] == "[dns.main] said no"
        assert datetime.fromisoformat(shown["next_attempt"]) == at.replace(microsecond=0)
    else:
        assert (
            f"www.{ZONE} is still in its zone: [dns.main] said no: 403; allow it" in result.output
        )
        assert "next attempt in 24 h" in result.output
        assert "other" not in result.output


# -- another challenge --------------------------------------------------------------------------

PARK = Park(NOW + DAY, Failure("x", "y", "z", NOW), everyone=True)


@pytest.mark.parametrize(
    ("challenges", "parked", "kept", "chosen"),
    [
        pytest.param(("dns-01", "http-01"), (), None, "dns-01", id="none is parked"),
        pytest.param(("dns-01", "http-01"), ("dns main",), None, "http-01", id="its account is"),
        pytest.param(("dns-01", "http-01"), ("dns other",), None, "dns-01", id="another is"),
        pytest.param(("dns-01", "http-01"), ("test",), None, "dns-01", id="its CA is"),
        pytest.param(("dns-01",), ("dns main",), None, "dns-01", id="there is no other way"),
        pytest.param(
            ("dns-01", "dns-account-01", "tls-alpn-01"),
            ("dns main",),
            None,
            "tls-alpn-01",
            id="all that need it",
        ),
        pytest.param(("http-01", "dns-01"), ("dns main",), None, "http-01", id="not needed"),
        pytest.param(("http-01", "dns-01"), ("dns main",), "dns-01", "dns-01", id="the last"),
    ],
)
def test_a_provider_that_must_not_be_asked_is_passed_over(
    challenges: tuple[str, ...], parked: tuple[str, ...], kept: str | None, chosen: str
) -> None:
    wanted = spec("www", "main", challenges=challenges)
    lineage = Lineage("www", challenge=kept, parks=dict.fromkeys(parked, PARK))
    assert due.challenge(wanted, lineage) == chosen
    held = chosen in ("dns-01", "dns-account-01") and "dns main" in parked
    assert due.issuance(replace(wanted, cas=("ca",)), lineage, NOW).due(NOW) is not held


@pytest.mark.parametrize(
    ("error", "parked"),
    [
        pytest.param(ChallengeError("nobody serves the zone", "", ""), False, id="not to be seen"),
        pytest.param(ProviderError("said no", "", ""), False, id="refused"),
        pytest.param(DENIED, True, id="the credential"),
    ],
)
def test_what_is_seen_before_the_order_leads_to_the_next_challenge_at_once(
    desk: Desk, error: ChallengeError | ProviderError, parked: bool
) -> None:
    wanted = spec("www", "main", challenges=("dns-01", "http-01"))
    if isinstance(error, ProviderDenied):
        error.account = "main"
    store = desk.store
    store.lineages.take_over({"www": wanted}, "digest")
    assert store.leases.claim(["www"]) == ["www"]
    attempt = Attempt(wanted, "test", NO_LIMITS, None)
    assert setback.keep(attempt, error, store, 0.0, NOW) == NOW
    lineage = store.lineages.get("www")
    assert due.challenge(wanted, lineage) == "http-01"
    assert (set(lineage.parks), lineage.failures) == ({"dns main"} if parked else set(), 1)
    assert due.issuance(wanted, lineage, NOW).due(NOW)
    # After the last of them there is a wait, and it begins anew.
    assert setback.keep(attempt, ChallengeError("not there", "", ""), store, 0.0, NOW) > NOW
    lineage = store.lineages.get("www")
    assert lineage.challenge is None
    assert not due.issuance(wanted, lineage, NOW).due(NOW)


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        pytest.param(None, due.BACKOFF[0], id="it does not say"),
        pytest.param(3600.0, timedelta(hours=1), id="an hour"),
        pytest.param(1e20, DAY, id="for ever"),
    ],
)
def test_a_busy_provider_is_not_asked_before_it_says(
    desk: Desk, asked: float | None, waits: timedelta
) -> None:
    error = ProviderBusy("[dns.main] is busy", "HTTP 429", "", asked)
    for challenges, wait in [(("dns-01",), waits), (("dns-01", "http-01"), timedelta(0))]:
        wanted = spec("www", "main", challenges=challenges)
        desk.store.lineages.take_over({"www": wanted}, "digest")
        desk.store.leases.claim(["www"])
        attempt = Attempt(wanted, "test", NO_LIMITS, None)
        desk.store.lineages.keep_failure("www", None, 0, None)
        assert setback.keep(attempt, error, desk.store, 0.0, NOW) == NOW + wait


@pytest.mark.parametrize(
    ("names", "parked", "others"),
    [
        pytest.param(["www.a.test"], {"dns main a.test"}, ["b"], id="its zone"),
        pytest.param(["*.a.test", "b.test"], {"dns main a.test"}, ["b"], id="one of its zones"),
        pytest.param(
            ["alias.test"], {"dns main a.test", "dns main"}, ["b"], id="a zone by an alias"
        ),
    ],
)
def test_a_refusal_in_one_zone_stops_what_is_in_that_zone_only(
    desk: Desk, names: list[str], parked: set[str], others: list[str]
) -> None:
    def wanted(name: str, *hosts: str) -> CertificateSpec:
        return replace(spec(name, "main"), identifiers=tuple(Identifier("dns", h) for h in hosts))

    specs = {
        "www": wanted("www", *names),
        "a": wanted("a", "other.a.test"),
        "b": wanted("b", "www.b.test", "nota.test"),
        "c": replace(wanted("c", "a.test"), dns=(("*", "second"),)),
    }
    store = desk.store
    store.lineages.take_over(specs, "digest", {"dns main": "1"})
    assert store.leases.claim(["www"]) == ["www"]
    error = ProviderDenied("no", "", "", "a.test")
    error.account = "main"
    setback.keep(Attempt(specs["www"], "test", NO_LIMITS, None), error, store, 0.0, NOW)
    assert set(store.lineages.get("www").parks) == parked
    held = {
        name
        for name in specs
        if not due.issuance(specs[name], store.lineages.get(name), NOW).due(NOW)
    }
    assert held == {"www", "a"}
    # Another credential is tried at once.
    store.lineages.take_over(specs, "digest 2", {"dns main": "2"})
    assert {name for name in specs if store.lineages.get(name).parks} == set()


def test_a_zone_that_a_provider_tells_is_kept(desk: Desk) -> None:
    plugin = Memory(errors=[ProviderDenied("no", "", "", "a.test")])
    desk.follow(account("main", plugin))
    error = desk.publish("main", "www").exception(LONG)
    assert isinstance(error, ProviderDenied)
    assert (error.account, error.zone) == ("main", "a.test")
