"""The store: leases and their fencing, shared commits, the schema, on real files."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import certd.store.store
from certd.errors import StoreError
from certd.known import (
    Account,
    Failure,
    Order,
    Park,
    RenewalInfo,
    TargetState,
)
from certd.model import Certificate, CertificateSpec, Identifier
from certd.secrets import Secret
from certd.store import FileLock, LeaseLost, Store, schema
from certd.store.database import Database
from certd.store.files import HEAD
from certd.store.glance import glance

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = ("a", "b", "c")
Open = Callable[[], Store]


def specs(*names: str) -> dict[str, CertificateSpec]:
    return {
        name: CertificateSpec(name, (Identifier("dns", f"{name}.example.com"),), ("test",))
        for name in names
    }


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    """``open_store()``: one more process's view of the same state folder."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(contextlib.closing(Store.open(tmp_path / "state")))


@pytest.fixture
def store(open_store: Open) -> Store:
    """Three certificates, all due."""
    store = open_store()
    store.lineages.take_over(specs(*NAMES), "digest")
    return store


def settle(store: Store, *names: str, due_at: datetime | None = None) -> None:
    """Take these and give them back, so that nothing about them is due."""
    for name in store.leases.claim(names):
        store.leases.release(name, due_at)


def begin(store: Store, name: str) -> Order:
    (identifier,) = specs(name)[name].identifiers
    return store.orders.begin(
        name,
        "test",
        "https://ca.example/dir",
        (identifier,),
        "ec-p256",
        Secret(f"key of {name}"),
        "csr",
        None,
        NOW,
    )


def facts(name: str, serial: str = "01") -> Certificate:
    return Certificate(
        specs(name)[name].identifiers, NOW, NOW + 90 * 24 * HOUR, serial, "ff", "pin", "ari", "CA"
    )


# -- leases -------------------------------------------------------------------------------


def test_what_is_leased_again_in_the_moment_it_is_given_back_is_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became due while it was worked on, and another thread of the same daemon was quick."""
    store.leases.claim(NAMES)
    store.lineages.ask_hub(["a"], NOW)
    write, taken = Database.write, list[str]()

    def quick(database: Database, work: Callable[[sa.Connection], object]) -> object:
        done = write(database, work)
        if not taken:
            taken.append("a")
            assert store.leases.claim_due(NOW, 9) == ["a"]
        return done

    monkeypatch.setattr(Database, "write", quick)
    store.leases.release("a", NOW + HOUR)
    store.lineages.hold("a", NOW + HOUR, "its limit")  # or it would be said to be another's
    store.leases.release("a", NOW + HOUR)
    assert store.leases.claim_due(NOW + HOUR, 9) == ["a"]


def test_what_could_not_be_given_back_is_still_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.leases.claim(NAMES)

    def full(database: Database, work: Callable[[sa.Connection], object]) -> object:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", full)
        with pytest.raises(StoreError, match="the disk is full"):
            store.leases.release("a", NOW + HOUR)
    store.leases.release("a", NOW)
    assert store.leases.claim_due(NOW, 9) == ["a"]


def test_two_processes_never_have_the_same_certificate(store: Store, open_store: Open) -> None:
    other = open_store()
    assert store.leases.claim_due(NOW, 2) == ["a", "b"]
    assert other.leases.claim_due(NOW, 5) == ["c"]
    assert store.leases.claim_due(NOW, 5) == []
    assert other.leases.claim(NAMES) == ["c"]


def test_many_threads_and_processes_claim_disjoint_sets(store: Store, open_store: Open) -> None:
    names = [f"n{number}" for number in range(200)]
    store.lineages.take_over(specs(*names), "more")
    stores = [store, open_store(), open_store()]
    claimed: list[str] = []

    def claim(mine: Store) -> None:
        while taken := mine.leases.claim_due(NOW, 7):
            claimed.extend(taken)

    threads = [threading.Thread(target=claim, args=(mine,)) for mine in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(names)


def test_only_what_is_due_and_configured_is_claimed(store: Store) -> None:
    settle(store, *NAMES, due_at=NOW + HOUR)
    assert store.leases.claim_due(NOW, 9) == []
    store.lineages.take_over(specs("a", "b"), "without c")
    assert store.leases.claim_due(NOW + HOUR, 9) == ["a", "b"]


@pytest.mark.parametrize(
    ("tables", "again"),
    [
        pytest.param({"ca test": "2", "http": "1", "target web": "1"}, "ab", id="its CA"),
        pytest.param({"ca test": "1", "http": "2", "target web": "1"}, "ab", id="the responder"),
        pytest.param({"ca test": "1", "http": "1", "target web": "2"}, "", id="a target"),
        pytest.param({"ca test": "1", "http": "1", "ca other": "1"}, "", id="another CA"),
        pytest.param({}, "", id="something else"),
    ],
)
def test_what_failed_need_not_wait_once_its_cause_may_be_gone(
    store: Store, tables: dict[str, str], again: str
) -> None:
    before = {"ca test": "1", "http": "1", "target web": "1", "ca other": "0"}
    store.lineages.take_over(specs(*NAMES), "first", before)
    store.leases.claim(NAMES)
    for name in "ab":
        store.lineages.keep_failure(name, Failure("x", "y", "z", NOW), 3, NOW + HOUR)
    for name in NAMES:
        store.leases.release(name, NOW + HOUR)
    store.lineages.take_over(specs(*NAMES), "second", tables)
    found = {name: store.lineages.get(name) for name in NAMES}
    assert [name for name in "ab" if found[name].retry_at is None] == list(again)
    assert [name for name in "ab" if found[name].failures == 0] == list(again)
    assert all(found[name].failure for name in "ab")  # what it was can still be seen
    due = store.leases.claim_due(NOW, 9)
    assert {name for name in due if name != "c"} == set(again)


WEB = {name: replace(spec, targets=("web",)) for name, spec in specs(*NAMES).items()}
OTHER = replace(WEB["a"], identifiers=(Identifier("dns", "other.example.com"),))


@pytest.mark.parametrize(
    ("wanted", "tables"),
    [
        pytest.param(WEB, {}, id="nothing"),
        pytest.param(WEB, {"ca test": "2"}, id="the CA"),
        pytest.param(WEB, {"http": "2"}, id="the responder"),
        pytest.param(WEB, {"target web": "2"}, id="a target"),
        pytest.param(WEB, {"target mail": "2"}, id="a target that nothing is deployed to"),
        pytest.param(WEB, {"ca new": "1"}, id="a table that was not there"),
        pytest.param({**WEB, "a": OTHER}, {}, id="a certificate"),
        pytest.param({**WEB, "d": replace(OTHER, name="d")}, {}, id="one certificate more"),
        pytest.param({"a": WEB["a"]}, {}, id="fewer certificates"),
        pytest.param({"a": OTHER}, {"ca test": "2", "target web": "2"}, id="all at once"),
    ],
)
@pytest.mark.parametrize("left", [(), ("a",)], ids=["", "one was left out meanwhile"])
def test_what_a_configuration_changes_is_known_before_it_is_followed(
    store: Store,
    tmp_path: Path,
    wanted: dict[str, CertificateSpec],
    tables: dict[str, str],
    left: tuple[str, ...],
) -> None:
    """What ``plan`` makes of the rows is what ``renew`` will find in them."""
    state, failure = tmp_path / "state", Failure("x", "y", "z", NOW)
    before = {"ca test": "1", "http": "1", "target web": "1", "target mail": "1"}
    store.lineages.take_over(WEB, "first", before)
    store.leases.claim(NAMES)
    for name, target in (
        ("a", TargetState("web", "failed", 1, None, 2, NOW, NOW + HOUR, failure)),
        ("b", TargetState("web", "verified", 1, 1)),
    ):
        store.lineages.keep_target(name, target)
        store.lineages.keep_failure(name, failure, 3, NOW + HOUR, "tls-alpn-01")
    store.leases.release_all()
    kept = {name: spec for name, spec in WEB.items() if name not in left}
    store.lineages.take_over(kept, "second", before)
    seen = glance(state)
    shown = seen.as_under(wanted, {**before, **tables})
    store.lineages.take_over(wanted, "third", {**before, **tables})
    assert shown == glance(state).wanted == store.lineages.all()


def test_a_corrected_certificate_is_tried_at_once(store: Store) -> None:
    store.leases.claim(NAMES)
    for name in NAMES:
        store.lineages.keep_failure(name, Failure("x", "y", "z", NOW), 3, NOW + HOUR)
        store.leases.release(name, NOW + HOUR)
    corrected = CertificateSpec("b", (Identifier("dns", "right.example.com"),), ("test",))
    store.lineages.take_over({**specs(*NAMES), "b": corrected}, "second")
    assert store.lineages.get("b").retry_at is None
    assert store.leases.claim_due(NOW, 9) == ["b"]


def test_a_self_check_that_is_switched_off_is_tried_at_once_and_only_then(store: Store) -> None:
    blind = replace(specs("b")["b"], self_check=False)
    tried = []
    for digest, spec in (("second", blind), ("third", blind), ("fourth", specs("b")["b"])):
        assert store.leases.claim(["b"]) == ["b"]
        store.lineages.keep_failure("b", Failure("x", "y", "z", NOW), 3, NOW + HOUR)
        store.leases.release("b", NOW + HOUR)
        store.lineages.take_over({**specs(*NAMES), "b": spec}, digest)
        tried.append(store.lineages.get("b").retry_at is None)
    assert tried == [True, False, True]


def test_challenges_in_order_begin_anew_with_what_changes_about_any_of_them(store: Store) -> None:
    several = replace(specs("b")["b"], challenges=("http-01", "tls-alpn-01"))
    wanted = {**specs(*NAMES), "b": several}
    kept = []
    for tables in ({"http": "1", "tls_alpn": "1"}, {"http": "1", "tls_alpn": "2"}):
        store.lineages.take_over(wanted, str(tables), tables)
        [spec] = [spec for spec, _ in store.lineages.all() if spec.name == "b"]
        assert spec == several
        kept.append(store.lineages.get("b").challenge)
        store.leases.claim(["b"])
        failure = Failure("x", "y", "z", NOW)
        store.lineages.keep_failure("b", failure, 3, NOW + HOUR, "tls-alpn-01")
        kept.append(store.lineages.get("b").challenge)
        store.leases.release("b", NOW + HOUR)
    assert kept == [None, "tls-alpn-01"] * 2
    assert store.leases.claim(["b"]) == ["b"]
    store.orders.complete(begin(store, "b"), "leaf", "chain", facts("b"), NOW)
    assert store.lineages.get("b").challenge is None


def test_a_corrected_target_is_worth_another_try(store: Store) -> None:
    """Nothing is ordered while a target could not take it."""
    wanted = {"a": replace(specs("a")["a"], targets=("web",)), **specs("b")}
    store.lineages.take_over(wanted, "second", {"target web": "1", "target other": "1"})
    store.leases.claim(NAMES)
    for name in NAMES:
        store.lineages.keep_failure(name, Failure("x", "y", "z", NOW), 3, NOW + HOUR)
        store.leases.release(name, NOW + HOUR)
    store.lineages.take_over(wanted, "third", {"target web": "1", "target other": "2"})
    assert not store.leases.claim_due(NOW, 9)
    store.lineages.take_over(wanted, "fourth", {"target web": "2", "target other": "2"})
    assert store.leases.claim_due(NOW, 9) == ["a"]


def test_an_account_has_the_key_that_it_was_made_with(store: Store) -> None:
    """Two processes registered it, one with another key: only one of the two is the account."""
    url = "https://ca.example/dir"
    mine, theirs = Account(url, Secret("mine")), Account(url, Secret("theirs"))
    assert store.accounts.keep_account(mine) == mine
    store.accounts.keep_account_key(theirs)
    assert not store.accounts.keep_account_uri(replace(mine, uri="https://ca.example/1"))
    assert store.accounts.keep_account_uri(replace(theirs, uri="https://ca.example/2"))
    found = store.accounts.account(url)
    assert found is not None
    assert (found.key_pem.reveal(), found.uri) == ("theirs", "https://ca.example/2")


def test_what_expires_next_is_looked_at_first_where_all_are(store: Store) -> None:
    """As when a CA has all renewed at once, and its limit does not allow that."""
    for days, name in ((60, "c"), (9, "a")):
        store.leases.claim([name])
        expiring = replace(facts(name), not_after=NOW + days * 24 * HOUR)
        store.orders.complete(begin(store, name), "leaf", "chain", expiring, NOW)
        store.leases.release(name, NOW + HOUR)
    store.lineages.ask_all(NOW)
    assert [store.leases.claim_due(NOW, 1) for _ in range(3)] == [["a"], ["c"], ["b"]]


def test_of_two_parks_the_longer_one_holds(store: Store) -> None:
    """Two orders may come back with refusals of our account at once."""
    store.leases.claim(NAMES)
    failure = Failure("x", "y", "z", NOW)
    for until in (NOW + HOUR, None, NOW + 2 * HOUR):
        store.parks.keep("a", "test", Park(until, failure, everyone=True))
        store.parks.keep("a", "other", Park(until or NOW, failure))
    parks = store.lineages.get("a").parks
    assert parks["test"].until is None
    assert parks["other"].until == NOW + 2 * HOUR


def test_only_parks_that_are_over_are_forgotten(store: Store) -> None:
    store.leases.claim(NAMES)
    for ca, until in (("over", NOW), ("holds", NOW + HOUR), ("stopped", None)):
        store.parks.keep("a", ca, Park(until, Failure("x", "y", "z", NOW)))
    store.parks.forget(NOW)
    assert set(store.lineages.get("a").parks) == {"holds", "stopped"}


def test_the_longest_due_goes_first(store: Store) -> None:
    for hours, name in enumerate(("c", "a", "b")):
        settle(store, name, due_at=NOW + hours * HOUR)
    assert store.leases.claim_due(NOW + 9 * HOUR, 2) == ["c", "a"]


def _writes(store: Store, order: Order) -> list[Callable[[], object]]:
    """Everything that a worker may write about a certificate that it has leased."""
    return [
        lambda: store.lineages.keep_failure("a", Failure("x", "y", "z", NOW), 1, NOW),
        lambda: store.lineages.keep_renewal("a", None, NOW, 1),
        lambda: store.lineages.keep_target("a", TargetState("web")),
        lambda: store.orders.keep_url(order, "https://ca.example/1"),
        lambda: store.orders.without_replaces(order),
        lambda: store.orders.end(order, "failed", "why", NOW),
        lambda: store.orders.complete(order, "leaf", "chain", facts("a"), NOW),
        lambda: begin(store, "a"),
        lambda: store.leases.release("a", NOW),
    ]


def _dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def _assert_fenced(store: Store, order: Order, path: Path) -> None:
    before = _dump(path)
    for write in _writes(store, order):
        with pytest.raises(LeaseLost):  # noqa: PT012  # at once, or when it is no longer put off
            write()
            store.settle()
    assert _dump(path) == before


def test_a_worker_whose_lease_was_taken_over_cannot_write(
    store: Store, open_store: Open, tmp_path: Path
) -> None:
    """It was paused, taken for dead, and goes on."""
    other = open_store()
    store.leases.claim(["a"])
    order = begin(store, "a")
    path = tmp_path / "state" / "certd.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE lineage SET holder = NULL")
        database.commit()
    assert other.leases.claim(["a"]) == ["a"]
    _assert_fenced(store, order, path)
    other.leases.release("a", NOW)
    _assert_fenced(store, order, path)


def test_a_certificate_that_was_given_back_is_not_written_any_more(store: Store) -> None:
    store.leases.claim(["a"])
    store.leases.release("a", NOW)
    with pytest.raises(LeaseLost):
        store.lineages.keep_target("a", TargetState("web"))


def test_what_a_killed_process_had_is_given_back(store: Store, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from certd.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print(store.leases.claim(['a', 'b']), flush=True)\n"
        "sys.stdin.read(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "state")]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "['a', 'b']\n"
        assert list(store.leases.free_the_dead()) == []
        assert store.leases.claim(NAMES) == ["c"]
        process.stdin.close()
        process.wait(10)
    assert len(list(store.leases.free_the_dead())) == 1
    assert store.leases.claim_due(NOW, 9) == ["a", "b"]
    assert len(list((tmp_path / "state" / "workers").iterdir())) == 1


def test_an_orderly_end_gives_everything_back(store: Store, tmp_path: Path) -> None:
    with contextlib.closing(Store.open(tmp_path / "state")) as other:
        assert len(other.leases.claim(NAMES)) == 3
    assert store.leases.claim_due(NOW, 9) == list(NAMES)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda s: s.lineages.retry_now("a", NOW, force=True), id="certd renew"),
        pytest.param(
            lambda s: s.lineages.take_over(
                {**specs(*NAMES), "a": CertificateSpec("a", (), ("other",))}, "changed"
            ),
            id="a changed configuration",
        ),
    ],
)
def test_what_others_ask_for_during_a_lease_is_not_lost(
    store: Store, open_store: Open, ask: Callable[[Store], None]
) -> None:
    store.leases.claim(NAMES)
    ask(open_store())
    for name in NAMES:
        store.leases.release(name, NOW + HOUR)
    assert store.leases.claim_due(NOW, 9) == ["a"]


def test_asking_the_cas_afresh_reaches_a_leased_certificate(store: Store) -> None:
    store.leases.claim(["a"])
    store.orders.complete(begin(store, "a"), "leaf", "chain", facts("a"), NOW)
    store.lineages.ask_all(NOW)
    store.leases.release("a", NOW + HOUR)
    assert "a" in store.leases.claim_due(NOW, 9)


# -- orders -------------------------------------------------------------------------------


def test_a_certificate_has_one_order_under_way(store: Store) -> None:
    store.leases.claim(["a"])
    begin(store, "a")
    with pytest.raises(StoreError):
        begin(store, "a")


def test_an_order_that_is_complete_is_the_current_version(store: Store) -> None:
    store.leases.claim(["a"])
    for number in (1, 2):
        order = begin(store, "a")
        assert store.orders.live("a") == order
        assert store.orders.complete(order, "leaf", "chain", facts("a"), NOW) == number
        assert store.orders.live("a") is None
    current = store.lineages.get("a").current
    assert current is not None
    assert (current.number, current.ca, current.certificate) == (2, "test", facts("a"))
    assert store.lineages.bundle("a", 1).key_pem == Secret("key of a")


def test_a_glance_sees_what_the_store_has(store: Store, tmp_path: Path) -> None:
    store.leases.claim(NAMES)
    store.orders.complete(begin(store, "a"), "leaf", "chain", facts("a"), NOW)
    window = RenewalInfo(NOW, NOW + HOUR, NOW + HOUR / 2, "https://why.example")
    store.lineages.keep_renewal("a", window, NOW + 2 * HOUR, 3)
    failure = Failure("what", "why", "next", NOW)
    store.lineages.keep_target("a", TargetState("web", "failed", 1, None, 2, NOW, NOW, failure))
    store.lineages.keep_failure("b", failure, 4, NOW + HOUR, "tls-alpn-01")
    begin(store, "c")
    store.orders.keep_url(begin(store, "b"), "https://ca.example/order/1")
    assert [(one.ordering, one.placed) for _, one in store.lineages.all()] == [
        (False, False),
        (True, True),
        (True, False),
    ]
    seen = glance(tmp_path / "state")
    assert (seen.wanted, seen.configuration) == (store.lineages.all(), "digest")


# -- commits ------------------------------------------------------------------------------


def test_one_callers_error_undoes_its_own_work_only(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "certd.db")
    ready, errors = threading.Barrier(21), list[int]()

    def put(number: int) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(schema.meta).values(key=str(number), value=""))
            if number % 5 == 0:
                raise ValueError(str(number))

        ready.wait()
        try:
            database.write(work)
        except ValueError as error:
            errors.append(int(str(error)))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    with database._lock:  # all of them meet in one commit
        ready.wait()
        while len(database._waiting) < 20:
            pass
    for thread in threads:
        thread.join()
    kept = database.read(lambda c: c.execute(sa.select(schema.meta.c.key)).scalars().all())
    database.close()
    assert sorted(map(int, kept)) == [number for number in range(20) if number % 5]
    assert sorted(errors) == [0, 5, 10, 15]


def _put(key: str) -> Callable[[sa.Connection], object]:
    return lambda c: c.execute(sa.insert(schema.meta).values(key=key, value=""))


def _keys(database: Database) -> list[str]:
    return database.read(
        lambda c: list(c.execute(sa.select(schema.meta.c.key).order_by("key")).scalars())
    )


def test_what_is_deferred_comes_with_the_next_write_and_before_it(tmp_path: Path) -> None:
    database, other = (Database.open(tmp_path / "certd.db") for _ in range(2))
    database.defer(_put("a"))
    assert _keys(other) == []
    database.write(lambda c: c.execute(sa.update(schema.meta).values(value="seen")))
    assert other.read(lambda c: c.execute(sa.select(schema.meta.c.value)).scalar()) == "seen"
    database.close()
    other.close()


@pytest.mark.parametrize("look", ["read", "settle", "close"])
def test_what_is_deferred_is_kept_before(look: str, tmp_path: Path) -> None:
    database, other = (Database.open(tmp_path / "certd.db") for _ in range(2))
    database.defer(_put("a"))
    if look == "read":
        assert _keys(database) == ["a"]
    else:
        getattr(database, look)()
    assert _keys(other) == ["a"]
    other.close()
    database.close()


@pytest.mark.parametrize("look", ["write", "read", "settle"])
def test_a_deferred_write_that_fails_is_raised_by_what_follows(look: str, tmp_path: Path) -> None:
    database = Database.open(tmp_path / "certd.db")
    database.write(_put("a"))
    database.defer(_put("a"))
    database.defer(_put("b"))
    follow: dict[str, Callable[[], object]] = {
        "write": lambda: database.write(_put("c")),
        "read": lambda: _keys(database),
        "settle": database.settle,
    }
    with pytest.raises(StoreError, match="UNIQUE"):
        follow[look]()
    assert _keys(database) == (["a", "b", "c"] if look == "write" else ["a", "b"])
    database.close()


def test_what_was_written_is_there_for_the_next_process(store: Store, tmp_path: Path) -> None:
    store.lineages.retry_now("a", NOW, force=True)
    with contextlib.closing(Store.look(tmp_path / "state")) as other:
        assert other.lineages.get("a").forced
        assert not other.lineages.get("b").forced


# -- the schema ---------------------------------------------------------------------------


def _folder() -> Path:
    return Path(certd.store.store.__file__).parent / "migrations"


def test_the_newest_migration_is_the_one_that_the_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(_folder()))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def _migrated(path: Path, revision: str) -> None:
    """What somebody has who was there from the first release on, up to this revision."""
    engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(_folder()))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)
        if revision != HEAD:
            return
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def _columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Of each table and index: number, name, type, not null, primary key."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        return {
            name: sorted(connection.execute(f"PRAGMA {kind}_info('{name}')").fetchall())
            + (
                [("unique" in sql.lower(), "where" in sql.lower())]
                if kind == "index" and sql
                else []
            )
            for kind, name, sql in names
        }


def test_the_migrations_make_the_tables_that_the_program_makes(tmp_path: Path) -> None:
    _migrated(tmp_path / "old.db", HEAD)
    Database.open(tmp_path / "new.db").close()
    assert _columns(tmp_path / "old.db") == _columns(tmp_path / "new.db")
    assert len(_columns(tmp_path / "new.db")) > 8


_FIRST_RELEASE = """
    INSERT INTO lineage (name, configured, wanted, due_at, epoch, current, forced, failures,
        ask_failures) VALUES ('a', 1, 'dns:a.example.com
{"cas": ["test"], "challenge": "http-01", "targets": [], "key_type": "ec-p256",
"renew_after": null}', 0, 3, 1, 0, 0, 0);
    INSERT INTO version VALUES ('a', 1, 'test', 'ec-p256', 'dns:a.example.com', 0, 1, '0a', 'ff',
        'pin', NULL, 'CN=CA', 0, 'key', 'leaf', 'chain');
    INSERT INTO certificate_order VALUES (1, 'a', 'test', 'dns:a.example.com', 'ec-p256',
        'new key', 'csr', NULL, 'https://ca.example/order/1', 'live', NULL, 0, NULL);
"""


def test_a_database_of_the_first_release_is_opened(tmp_path: Path) -> None:
    """With all that is in it."""
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "certd.db"
    _migrated(path, "0001")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(_FIRST_RELEASE)
    with contextlib.closing(Store.open(tmp_path / "state")) as store:
        current = store.lineages.get("a").current
        assert current is not None
        assert (current.directory, current.certificate.serial) == (None, "0a")
        assert store.lineages.bundle("a", 1).key_pem.reveal() == "key"
        order = store.orders.live("a")
        assert order is not None
        assert (order.directory, order.key_pem.reveal()) == (None, "new key")
        store.leases.claim(["a"])
        with pytest.raises(StoreError):
            begin(store, "a")


# -- files --------------------------------------------------------------------------------


def test_nobody_else_may_read_the_state_folder(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "state", *(tmp_path / "state").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_copy_that_others_can_read_is_closed_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Store.open(tmp_path / "state").close()
    path = tmp_path / "state" / "certd.db"
    path.chmod(0o644)
    Store.open(tmp_path / "state").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "had mode 0644: others could read it" in caplog.text


def test_a_state_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match=f"everybody may write to it.*; chmod 0700 {tmp_path}"):
        Store.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_a_link_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "certd.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        Store.open(state)
    assert not (tmp_path / "elsewhere").exists()


def test_an_error_of_the_database_shows_no_values(store: Store) -> None:
    store.leases.claim(["a"])
    begin(store, "a")
    with pytest.raises(StoreError) as failed:
        begin(store, "a")
    shown = f"{failed.value!r} {failed.value} {failed.value.__cause__!r}"
    assert "key of a" not in shown
    assert "INSERT" not in shown


def test_a_lock_says_who_holds_it_and_dies_with_its_holder(tmp_path: Path) -> None:
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert not lock.held()
    assert lock.try_acquire("pid 7")
    assert not other.try_acquire("pid 8")
    assert (other.held(), other.holder()) == (True, "pid 7")
    lock.release()
    assert not other.held()
    assert other.try_acquire("pid 8")
    other.release(remove=True)
    assert other.holder() == ""


def test_a_lock_is_not_kept_alive_by_forked_children(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from certd.store import FileLock
path = Path(sys.argv[1])
lock = FileLock(path)
assert lock.try_acquire("parent")
hear, tell = os.pipe()
end, ending = os.pipe()
if os.fork() == 0:
    os.close(ending)
    lock.release(remove=True)  # as at its end: nothing of the parent's goes
    os.write(tell, b".")
    os.read(end, 1)
    os._exit(0)
os.read(hear, 1)
assert path.exists() and FileLock(path).held(), "the child's release is the parent's"
lock.release()
assert not FileLock(path).held(), "the child holds it"
"""
    words = [sys.executable, "-c", code, str(tmp_path / "lock")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_root_hands_over_what_it_makes_and_nothing_else(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: nothing can be handed over")
    state, victim = tmp_path / "theirs", tmp_path / "victim"
    state.mkdir(mode=0o700)
    victim.mkdir()
    os.chown(state, 12345, 12345)
    Store.open(state).close()
    assert {path.stat().st_uid for path in state.rglob("*")} == {12345}
    shutil.rmtree(state / "workers")
    (state / "workers").symlink_to(victim)
    with pytest.raises(StoreError, match="cannot use the state folder"):
        Store.open(state)
    secret = tmp_path / "secret"
    secret.touch()
    os.link(secret, state / "daemon.lock")
    FileLock(state / "daemon.lock").try_acquire("")
    assert (victim.stat().st_uid, secret.stat().st_uid) == (0, 0)
