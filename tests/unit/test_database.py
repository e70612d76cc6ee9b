"""The database as a file: damaged, copied, put back, brought up to date."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.config import Config

import certd.store.store
from certd.ca.keys import new_account_key
from certd.errors import CertdError, StoreError
from certd.model import CertificateSpec, Identifier, TxtRecord
from certd.secrets import Secret
from certd.store import FileLock, Store
from certd.store.backup import KEPT, back_up
from certd.store.database import Database
from certd.store.files import HEAD, daemon_lock, database_file
from certd.store.inspection import _SINCE, _TABLES, inspect
from certd.store.restoring import restore
from certd.store.schema import metadata
from certd.testing.chains import bundle

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = [f"n{number}" for number in range(8)]


def spec(name: str) -> CertificateSpec:
    return CertificateSpec(name, (Identifier("dns", f"{name}.example.com"),), ("test",))


def fill(state: Path, names: list[str] = NAMES) -> None:
    """Certificates with a version each, deployed; the first has an order under way too."""
    with contextlib.closing(Store.open(state)) as store:
        store.lineages.take_over({name: spec(name) for name in names}, "digest")
        for name in store.leases.claim(names):
            made = bundle(name)
            store.versions.adopt(made, "ec-p256", "test", ["web"], NOW)
            store.leases.release(name, NOW + timedelta(days=60))
        begin(store, names[0])


def begin(store: Store, name: str) -> None:
    from certd import x509

    key = x509.new_key("ec-p256")
    csr = x509.csr(key, spec(name).identifiers)
    store.leases.claim([name])
    store.orders.begin(
        name,
        "test",
        "https://ca.example/dir",
        spec(name).identifiers,
        "ec-p256",
        key,
        csr,
        None,
        NOW,
    )
    store.leases.release(name, NOW)


@pytest.fixture(scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("filled") / "state"
    fill(state)
    return state


@pytest.fixture
def state(_filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_filled, tmp_path / "state"))


def change(state: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database_file(state))) as database:
        database.executescript(statement)


def damage_last_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4096:-4088] = b"\xff" * 8  # its head
    path.write_bytes(content)


def currents(state: Path) -> dict[str, int | None]:
    with contextlib.closing(Store.look(state)) as store:
        return {
            found.name: found.current.number if found.current else None
            for _, found in store.lineages.all()
        }


# -- damage ---------------------------------------------------------------------------------


@pytest.mark.fault(row=42)
@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_byte_makes_a_certificate_look_new(state: Path, seed: int) -> None:
    """Either it is noticed, or all is as it was, or it is seen before anything is ordered."""
    path = database_file(state)
    whole, dice = path.read_bytes(), random.Random(seed)
    noticed = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for at in (dice.randrange(len(whole)) for _ in range(dice.choice((1, 1, 20)))):
            damaged[at] ^= dice.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            with contextlib.closing(Store.open(state)) as store:
                store.lineages.take_over({name: spec(name) for name in NAMES}, "another")
                for name in NAMES:
                    lineage = store.lineages.get(name)
                    assert lineage.current is not None or not store.versions.whole(name), name
        except StoreError:
            noticed += 1
    assert noticed > 3


def test_a_damaged_database_is_not_touched_any_more(state: Path) -> None:
    store = Store.open(state)
    path = database_file(state)
    # Under the running process, as a disk does it.
    content = path.read_bytes()
    changed = bytes(byte ^ 1 for byte in content[24:28])  # else the pages in memory would do
    path.write_bytes(content[:24] + changed + content[28:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StoreError, match="restore a backup with `certd db restore FILE`"):
        store.lineages.take_over({name: spec(name) for name in NAMES}, "another")
    after = path.read_bytes()
    for act in (store.lineages.all, lambda: store.leases.claim_due(NOW, 9), store.close):
        with pytest.raises(StoreError, match="damaged"):
            act()
    assert path.read_bytes() == after


def test_damage_that_no_row_shows_is_noticed_at_the_start(state: Path) -> None:
    path = database_file(state)
    damage_last_page(path)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(state)
    assert list((state / "workers").iterdir()) == []


OTHER_KEY = """UPDATE version SET key_pem = (SELECT key_pem FROM version WHERE lineage = 'n1')
    WHERE lineage = 'n2'"""
SECOND_ORDER = """DROP INDEX one_live_order; UPDATE certificate_order SET lineage = 'n1';
    INSERT INTO certificate_order (lineage, ca, identifiers, key_type, key_pem, csr_pem, state,
        created_at)
    SELECT lineage, ca, identifiers, key_type, key_pem, csr_pem, state, created_at
        FROM certificate_order"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param(
            "UPDATE lineage SET current = 7 WHERE name = 'n1'",
            "n1: its current version, 7, is not",
            id="no current version",
        ),
        pytest.param(
            "UPDATE lineage SET current = NULL WHERE name = 'n1'",
            "n1: none of its versions is current",
            id="none current",
        ),
        pytest.param(
            "UPDATE lineage SET wanted = '{' WHERE name = 'n1'",
            "n1: its row cannot be read",
            id="row",
        ),
        pytest.param(
            "UPDATE version SET key_pem = 'x' WHERE lineage = 'n2'",
            "n2: version 1: a private key cannot be read",
            id="no key",
        ),
        pytest.param(OTHER_KEY, "does not belong to its leaf", id="another key"),
        pytest.param(
            "UPDATE version SET chain_pem = 'x' WHERE lineage = 'n2'",
            "n2: version 1: there is no certificate chain",
            id="no chain",
        ),
        pytest.param(
            "UPDATE version SET leaf_pem = 'x' WHERE lineage = 'n2'",
            "n2: version 1: there is no certificate chain",
            id="no leaf",
        ),
        pytest.param(
            "UPDATE version SET fingerprint = 'x' WHERE lineage = 'n2'",
            "another fingerprint",
            id="facts",
        ),
        pytest.param(SECOND_ORDER, "n1: order 2: another one is under way", id="two orders"),
        pytest.param(
            "UPDATE certificate_order SET key_pem = NULL",
            "n0: order 1: its key or signing request",
            id="order without a key",
        ),
        pytest.param(
            "UPDATE target SET serving = 9 WHERE lineage = 'n3'",
            "n3 at web: version 9 is not there",
            id="target",
        ),
        pytest.param(
            "DELETE FROM lineage WHERE name = 'n3'", "version has rows of n3", id="orphans"
        ),
        pytest.param(
            "INSERT INTO account (directory, key_pem) VALUES ('https://ca.example/dir', 'x')",
            "account at https://ca.example/dir",
            id="account",
        ),
        pytest.param(
            "INSERT INTO account (directory, key_pem, next_key_pem) "
            f"VALUES ('https://ca.example/dir', '{new_account_key().reveal()}', 'x')",
            "account at https://ca.example/dir",
            id="account being rolled over",
        ),
    ],
)
def test_what_must_hold_is_looked_at(state: Path, statement: str, said: str) -> None:
    change(state, statement)
    found = inspect(database_file(state))
    assert bool(found.findings) == bool(said)
    assert said in " ".join(map(str, found.findings))
    assert all(finding.next for finding in found.findings)
    if not said:
        assert (found.certificates, found.versions, found.orders) == (len(NAMES), len(NAMES), 1)


def test_the_inspection_knows_the_tables() -> None:
    assert _TABLES.union(*_SINCE.values()) == set(metadata.tables)


@pytest.mark.parametrize(
    ("revision", "whole"), [("0006", False), ("0002", True)], ids=["of now", "of before"]
)
def test_a_table_that_is_lacking_is_told(state: Path, revision: str, whole: bool) -> None:
    change(state, "DROP TABLE bucket")
    change(state, f"UPDATE alembic_version SET version_num = '{revision}'")
    if whole:
        assert not inspect(database_file(state)).findings
    else:
        with pytest.raises(StoreError, match="it has no table bucket"):
            inspect(database_file(state))


def test_a_damaged_file_is_a_finding(state: Path) -> None:
    path = database_file(state)
    damage_last_page(path)
    [finding] = inspect(path).findings
    assert "SQLite finds it damaged" in finding.what
    assert "certd db restore" in finding.next


# -- copies ---------------------------------------------------------------------------------


def test_a_copy_is_whole_and_its_owners_only(state: Path) -> None:
    to = back_up(state, None, NOW)
    assert to == state / "backups" / "certd-20261121T120000Z.db"
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert inspect(to).versions == len(NAMES)
    assert [path.name for path in to.parent.iterdir()] == [to.name]


def test_what_a_killed_backup_or_restore_has_left_is_removed(state: Path) -> None:
    backups = state / "backups"
    backups.mkdir()
    left = (state / "restored.db", state / ".restored.db.tmp", backups / ".certd-1.db.tmp")
    young = backups / ".certd-2.db.tmp"
    for path in (*left, young):
        path.write_text("keys")
    for path in left:
        os.utime(path, (0, 0))
    Store.open(state).close()
    assert young.exists()
    assert not any(path.exists() for path in left)


def test_a_copy_made_while_others_write_is_one_instant(state: Path) -> None:
    """Each write moves all rows to the next epoch: a copy of two instants would show two."""
    change(state, "UPDATE lineage SET epoch = 0")
    done = threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(database_file(state), timeout=30)) as database:
            while not done.is_set():
                database.execute("UPDATE lineage SET epoch = epoch + 1")
                database.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            to = back_up(state, state / f"{number}.db", NOW)
            with contextlib.closing(sqlite3.connect(to)) as database:
                assert len(set(database.execute("SELECT epoch FROM lineage"))) == 1
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(lambda state: (state / "certd.db").unlink(), "No such file", id="no database"),
        pytest.param(
            lambda state: (state / "copy").write_text("[certd]"),
            "is no copy of a database",
            id="another file",
        ),
        pytest.param(
            lambda state: (state / "copy").symlink_to("certd.db"),
            "is no copy of a database",
            id="itself",
        ),
        pytest.param(
            lambda state: (state / "certd.db").write_bytes(b"x" * 9000),
            "not a database",
            id="damaged",
        ),
    ],
)
def test_a_copy_that_cannot_be_made_is_explained(
    state: Path, prepare: Callable[[Path], None], said: str
) -> None:
    prepare(state)
    with pytest.raises(StoreError, match=said) as failed:
        back_up(state, state / "copy", NOW)
    assert failed.value.next
    assert not any(path.name.endswith(".tmp") for path in state.iterdir())


def test_a_copy_of_what_is_damaged_is_none(state: Path) -> None:
    path = database_file(state)
    damage_last_page(path)
    back_up_to = state / "copy"
    with pytest.raises(StoreError, match="damaged"):
        back_up(state, back_up_to, NOW)
    assert not back_up_to.exists()


def test_a_copy_takes_the_place_of_an_older_one(state: Path) -> None:
    to = back_up(state, state / "copy", NOW)
    change(state, "DELETE FROM token; UPDATE lineage SET epoch = 99")
    back_up(state, to, NOW)
    with contextlib.closing(sqlite3.connect(to)) as database:
        assert set(database.execute("SELECT epoch FROM lineage")) == {(99,)}


# -- putting back ---------------------------------------------------------------------------


def test_a_copy_is_put_back_and_the_one_before_kept(state: Path) -> None:
    to = back_up(state, state / "copy", NOW)
    change(state, "UPDATE lineage SET current = NULL")
    aside = restore(state, to, NOW)
    assert aside == state / "backups" / "replaced-20261121T120000Z.db"
    assert set(currents(state).values()) == {1}
    assert inspect(aside).findings
    assert stat.S_IMODE(database_file(state).stat().st_mode) == 0o600
    assert restore(state, to, NOW) != aside  # in the same second


@pytest.mark.parametrize("before", ["none", "damaged"])
def test_what_was_lost_or_damaged_is_put_back(state: Path, before: str) -> None:
    to = back_up(state, state / "copy", NOW)
    database_file(state).unlink()
    if before == "damaged":
        database_file(state).write_bytes(b"garbage" * 999)
        (state / "certd.db-journal").write_bytes(b"of a transaction that was under way")
    aside = restore(state, to, NOW)
    assert (aside is None) == (before == "none")
    assert not (state / "certd.db-journal").exists()
    assert set(currents(state).values()) == {1}
    if aside:
        assert aside.read_bytes() == b"garbage" * 999
        assert aside.with_name(aside.name + "-journal").exists()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(lambda copy: copy.unlink(), "No such file", id="no file"),
        pytest.param(
            lambda copy: copy.write_text("text" * 999), "not a database", id="no database"
        ),
        pytest.param(
            lambda copy: _execute(copy, "DROP TABLE lineage"),
            "no database of certd",
            id="a stranger's",
        ),
        pytest.param(
            lambda copy: copy.write_bytes(copy.read_bytes()[:-5000]),
            "damaged|malformed",
            id="cut off",
        ),
        pytest.param(
            lambda copy: _execute(copy, "UPDATE lineage SET current = 9"),
            "its current version, 9",
            id="not whole",
        ),
        pytest.param(
            lambda copy: _execute(copy, "UPDATE alembic_version SET version_num = '9999'"),
            "newer certd",
            id="newer",
        ),
    ],
)
def test_what_is_no_good_copy_is_not_put_back(
    state: Path, prepare: Callable[[Path], object], said: str
) -> None:
    to = back_up(state, state / "copy", NOW)
    prepare(to)
    before = database_file(state).read_bytes()
    with pytest.raises(StoreError, match=said) as refused:
        restore(state, to, NOW)
    assert refused.value.next
    assert database_file(state).read_bytes() == before
    assert not (state / "restored.db").exists()


def _execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(statement)


def test_the_database_is_not_put_back_onto_itself(state: Path) -> None:
    with pytest.raises(StoreError, match="it is the database itself"):
        restore(state, database_file(state), NOW)
    assert set(currents(state).values()) == {1}


@pytest.fixture
def _daemon(state: Path) -> Iterator[None]:
    lock = FileLock(daemon_lock(state))
    lock.try_acquire("pid 4711")
    yield
    lock.release()


@pytest.mark.usefixtures("_daemon")
def test_a_daemon_at_work_is_not_robbed_of_its_database(state: Path) -> None:
    to = back_up(state, state / "copy", NOW)
    with pytest.raises(StoreError, match=r"in use by the daemon, pid 4711; stop it"):
        restore(state, to, NOW)


def test_nor_is_a_command_at_work(state: Path) -> None:
    to = back_up(state, state / "copy", NOW)
    with (
        contextlib.closing(Store.open(state)),
        pytest.raises(StoreError, match=f"in use by pid {os.getpid()}"),
    ):
        restore(state, to, NOW)
    restore(state, to, NOW)


# -- an older database ----------------------------------------------------------------------


def _at(path: Path, revision: str) -> None:
    """A database of the release that had this revision."""
    engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        config = Config()
        folder = Path(certd.store.store.__file__).parent / "migrations"
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)
    engine.dispose()


def test_a_copy_is_made_before_a_migration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "certd.db"
    for number in range(KEPT + 2):
        path.unlink(missing_ok=True)
        _at(path, "0001")
        with caplog.at_level("INFO", "certd"):
            Database.open(path).close()
        [copy] = (tmp_path / "backups").glob(f"before-{HEAD}-2*Z.db")
        copy.rename(copy.with_name(f"before-{HEAD}-{number}.db"))  # two may be made in a second
    copies = sorted((tmp_path / "backups").iterdir())
    assert [copy.stem[-1] for copy in copies] == ["2", "3", "4"]
    assert "as it was before" in caplog.text
    for copy in copies:
        with contextlib.closing(sqlite3.connect(copy)) as database:
            assert database.execute("SELECT * FROM alembic_version").fetchall() == [("0001",)]
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_the_journal_of_records_comes_to_a_database_of_before(tmp_path: Path) -> None:
    path = tmp_path / "certd.db"
    _at(path, "0009")
    _execute(path, "INSERT INTO account (directory, key_pem) VALUES ('https://ca.example', 'key')")
    with contextlib.closing(Store.open(tmp_path)) as store:
        assert [one.directory for one in store.accounts.all()] == ["https://ca.example"]
        record = TxtRecord("example.org", "_acme-challenge.example.org", "value", 60)
        assert store.records.publish("www", "main", record, NOW) == NOW
        assert store.records.publish("www", "main", record, NOW + timedelta(hours=1)) == NOW
    fresh = tmp_path / "fresh"
    Store.open(fresh).close()
    assert _table(path, "dns_record") == _table(database_file(fresh), "dns_record") != []


def _table(path: Path, name: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(f"PRAGMA table_info({name})").fetchall()


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "certd.db"
    _at(path, "0001")
    # Its second step finds what it wants to make; the first is done by then.
    _execute(path, "ALTER TABLE version ADD COLUMN directory VARCHAR")
    before = _schema(path)
    for _ in range(2):
        with pytest.raises(StoreError, match="it is as it was; a copy") as failed:
            Database.open(path)
        assert "install the certd of before" in failed.value.next
        assert _schema(path) == before


def _schema(path: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()


def test_without_room_for_the_copy_nothing_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "certd.db"
    _at(path, "0001")
    (tmp_path / "backups").write_text("in the way")
    with pytest.raises(CertdError, match="was not backed up"):
        Database.open(path)
    assert inspect(path).findings == ()


def test_a_key_is_in_no_finding(state: Path) -> None:
    key = Secret("hunter2")
    change(state, f"UPDATE version SET key_pem = '{key.reveal()}'")
    assert "hunter2" not in str(inspect(database_file(state)))
