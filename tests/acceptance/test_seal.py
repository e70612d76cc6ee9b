"""A sealed site as its operator runs it: nothing is found, nothing is lost with the key."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certd.references import SecretReference
from certd.store import Store
from certd.testing.pebble import Pebble
from certd.testing.processes import Child
from certd.testing.proxy import FaultyCA
from tests import signing
from tests.site import Site


@pytest.fixture
def faulty(pebble: Pebble, tmp_path: Path) -> Iterator[FaultyCA]:
    """Honest, but it tells what was asked for."""
    with FaultyCA(pebble, tmp_path / "ca") as faulty:
        yield faulty


@pytest.fixture
def site(faulty: FaultyCA, tmp_path: Path) -> Site:
    site = Site(tmp_path / "site", faulty).disk()
    return site.certificate("www", f"{secrets.token_hex(6)}.example.com", targets=["web"])


@pytest.fixture
def issued(pebble: Pebble) -> Callable[[], int]:
    return lambda: len(pebble.ledger())


def state(site: Site) -> bytes:
    """All bytes of the state folder: the database, its journal, backups."""
    return b"".join(path.read_bytes() for path in site.state.rglob("*") if path.is_file())


def tokens(faulty: FaultyCA) -> set[str]:
    """Of all challenges so far."""
    found = set()
    for exchange in faulty.acted_on("authorization"):
        assert exchange.upstream is not None
        found |= {item.get("token") for item in exchange.upstream.json()["challenges"]}
    return found - {None}


def keys(site: Site) -> list[str]:
    """A line of each private key in the store, but the first and last, which tell nothing."""
    with site.store() as store:
        order = store.orders.live("www")
        account = store.accounts.account(site.tables["ca.test"]["directory"])
        found = [order.key_pem if order else None, account and account.key_pem]
        if current := store.lineages.get("www").current:
            found.append(store.lineages.bundle("www", current.number).key_pem)
    return [key.reveal().splitlines()[1] for key in found if key]


def shows(site: Site, faulty: FaultyCA) -> list[str]:
    data = state(site)
    return [text for text in [*keys(site), *tokens(faulty), "PRIVATE KEY"] if text.encode() in data]


def until_ready(site: Site, daemon: Child) -> None:
    daemon.wait_until(lambda: ": watching " in (site.folder / "certd.log").read_text())


@pytest.mark.parametrize(
    "place",
    [
        "issue: order made",
        "issue: tokens are kept",
        "issue: version is current",
    ],
)
def test_killed_anywhere_there_is_nothing_to_be_found(
    site: Site, faulty: FaultyCA, issued: Callable[[], int], place: str
) -> None:
    before = issued()
    site.sealed()
    killed = site.certd("renew", CERTD_KILL_AT=place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert shows(site, faulty) == []
    assert keys(site) != []
    site.renew()
    assert shows(site, faulty) == []
    assert len(keys(site)) == 2
    assert tokens(faulty) != set()
    assert issued() == before + 1


def test_without_a_seal_they_are_found(site: Site, faulty: FaultyCA) -> None:
    """So that what searches for them does."""
    site.certd("renew", CERTD_KILL_AT="issue: tokens are kept")
    found = shows(site, faulty)
    assert {"PRIVATE KEY", *keys(site)} <= set(found)
    assert tokens(faulty) & set(found)


def test_what_is_there_is_sealed_at_the_next_start_and_copies_are_named(
    site: Site, faulty: FaultyCA, issued: Callable[[], int]
) -> None:
    site.renew()
    copy = site.certd("db", "backup").stdout.strip()
    before, leaf = issued(), site.bundle("www")
    assert "PRIVATE KEY" in shows(site, faulty)

    site.sealed()
    told = site.certd("seal", "status")
    assert told.returncode == 1
    assert "certd.db: not sealed: 2 secrets in plain text; `certd seal rotate` seals" in told.stdout
    site.renew()
    assert issued() == before
    assert site.bundle("www") == leaf
    told = site.certd("seal", "status")
    assert told.returncode == 1
    assert f"{copy}: not sealed: 2 secrets in plain text; remove it" in told.stdout
    Path(copy).unlink()
    assert site.certd("seal", "status").returncode == 0
    assert shows(site, faulty) == []

    backup = site.certd("db", "backup")
    assert shows(site, faulty) == []
    assert site.certd("db", "check").stdout.endswith("versions 1, orders under way 0\n")
    assert site.certd("db", "check", backup.stdout.strip()).returncode == 0
    assert "is the database now" in site.certd("db", "restore", backup.stdout.strip()).stdout
    assert site.bundle("www") == leaf


def test_whatever_has_a_key_works_under_a_seal(
    site: Site, faulty: FaultyCA, tmp_path: Path, issued: Callable[[], int]
) -> None:
    """A CA of one's own, an account moved and rolled over, pairs, keys in advance, revocation."""
    host = f"{secrets.token_hex(6)}.example.com"
    site.sealed()
    assert site.certd("ca", "init").returncode == 0
    site.certificate("in", "in.example.internal", ca=["local"], usage=["client"])
    signing.make(site.folder, f"DNS:{host}")
    site.certificate("own", host, csr="www.csr", targets=["web"])
    name = site.tables["certificate.www"]["names"][0]
    pair = {"key": ["ec-p256", "rsa-2048"], "backup_key": True, "targets": ["web"]}
    site.certificate("www", name, **pair).renew()
    account = tmp_path / "account.pem"
    for line in (
        "account list",
        "account rollover test",
        f"account export test {account}",
        f"account import test {account}",
        "revoke www --reason keyCompromise --yes",
        "ca init --replace",
        "renew in --force",
        "db check",
        f"seal key {site.folder / 'key'}",
        "seal rotate",
        "seal status",
    ):
        done = site.certd(*line.split())
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    assert shows(site, faulty) == []
    backup = site.certd("db", "backup").stdout.strip()
    before, leaf = issued(), site.bundle("www.rsa")
    (site.state / "certd.db").unlink()
    assert site.certd("db", "restore", backup).returncode == 0
    site.renew()
    assert (issued(), site.bundle("www.rsa")) == (before, leaf)
    assert {one["version"] for one in site.status().values()} == {1, 2}
    # Whom the root is for, and what is no secret, needs no key.
    (site.folder / "key").rename(site.folder / "elsewhere")
    for line in ("ca root", "show www", "status"):
        assert site.certd(*line.split()).returncode == 0, line
    for line in ("account show test", "revoke www --yes", "ca init"):
        done = site.certd(*line.split())
        assert done.returncode == 1, line
        assert "was not fetched: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda site: (site.folder / "key").unlink(),
            'the secret { file = "FOLDER/key" } was not fetched: No such file or directory; put',
            id="missing",
        ),
        pytest.param(
            lambda site: (site.folder / "key").write_text(f"{'A' * 43}=\n"),
            ", which is not there: { file = ",
            id="another",
        ),
    ],
)
def test_without_its_key_nothing_is_issued_changed_or_lost(
    site: Site, issued: Callable[[], int], change: Callable[[Site], None], said: str
) -> None:
    site.sealed().renew()
    key, database = (site.folder / "key").read_text(), (site.state / "certd.db").read_bytes()
    before, leaf = issued(), site.bundle("www")
    change(site)
    said = said.replace("FOLDER", str(site.folder))
    for words in (("renew", "www", "--force"), ("run",), ("seal", "rotate")):
        done = site.certd(*words)
        assert done.returncode == 1
        assert said in done.stderr
    for words in (("status",), ("show", "www"), ("db", "backup")):
        assert site.certd(*words).returncode == 0, words
    assert issued() == before
    assert (site.state / "certd.db").read_bytes() == database

    (site.folder / "key").write_text(key)
    site.renew()
    assert site.bundle("www") == leaf
    assert issued() == before


def test_a_value_that_was_changed_is_a_failure_that_is_told(
    site: Site, issued: Callable[[], int]
) -> None:
    site.sealed().renew()
    before = issued()
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        database.execute("UPDATE account SET key_pem = substr(key_pem, 1, 100)")
        database.commit()
    done = site.certd("renew", "www", "--force")
    assert done.returncode == 1
    assert "www: FAILED a sealed value does not open: account " in done.stdout
    assert "was changed, or belongs to another row; restore a backup" in done.stdout
    assert site.certd("db", "check").returncode == 1
    assert site.status()["www"]["state"] == "failing"
    assert issued() == before


def test_the_key_is_lost_and_the_targets_still_have_the_certificates(
    site: Site, issued: Callable[[], int]
) -> None:
    site.sealed().renew()
    before, leaf = issued(), site.bundle("www")
    (site.folder / "key").unlink()
    (site.state / "certd.db").rename(site.folder / "lost.db")
    site.sealed().renew()
    assert issued() == before
    assert site.bundle("www") == leaf


def test_another_key_beside_the_daemon_which_goes_on(
    site: Site, faulty: FaultyCA, issued: Callable[[], int]
) -> None:
    site.sealed().renew()
    before = issued()
    with site.start("run") as daemon:
        until_ready(site, daemon)
        old = (site.folder / "key").read_text()
        assert site.certd("seal", "key", str(site.folder / "key")).returncode == 0
        told = site.certd("seal", "rotate")
        assert told.returncode == 0, told.stderr
        assert "older backups need" in told.stdout
        new = (site.folder / "key").read_text()
        assert new.endswith(old)
        (site.folder / "key").write_text(new.removesuffix(old))
        # The daemon answers for the command, by tokens that the new key has sealed.
        site.renew("www", "--force")
        assert issued() == before + 1
        assert shows(site, faulty) == []
    assert site.certd("seal", "status").returncode == 0
    assert "already" in site.certd("seal", "rotate").stdout
    leaf = site.bundle("www")
    assert leaf is not None
    assert (site.folder / "web/www/current/cert.pem").read_text() == leaf.leaf_pem


def test_a_daemon_that_lacks_the_new_key_issues_nothing_until_it_is_restarted(
    site: Site, issued: Callable[[], int], tmp_path: Path
) -> None:
    """A systemd credential is read when the service starts."""
    site.sealed("certd-seal").renew()
    site.tables["certd"]["seal"] = {"credential": "certd-seal"}
    site.write()
    before = issued()
    loaded = tmp_path / "credentials"
    loaded.mkdir()
    shutil.copy(site.folder / "certd-seal", loaded)
    terminal = {"CREDENTIALS_DIRECTORY": str(site.folder)}
    with site.start("run", CREDENTIALS_DIRECTORY=str(loaded)) as daemon:
        until_ready(site, daemon)
        assert site.certd("renew").returncode == 1, "no credential at the terminal"
        site.certd("seal", "key", str(site.folder / "certd-seal"))
        assert site.certd("seal", "rotate", **terminal).returncode == 0
        seal = SecretReference("file", site.folder / "certd-seal")
        with contextlib.closing(Store.open(site.state, seal)) as store:
            store.lineages.retry_now("www", datetime.now(UTC), force=True)
        daemon.wait_until(lambda: "which is not there" in (site.folder / "certd.log").read_text())
        assert issued() == before
    with site.start("run", **terminal) as daemon:
        daemon.wait_until(lambda: issued() == before + 1)


def test_a_seal_that_has_changed_takes_a_restart(site: Site) -> None:
    site.renew()
    with site.start("run") as daemon:
        until_ready(site, daemon)
        site.sealed()
        daemon.send(signal.SIGHUP)
        log = site.folder / "certd.log"
        daemon.wait_until(lambda: "[certd] seal has changed; restart certd" in log.read_text())


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(
            ("seal", "rotate"), 2, "[certd] has no seal: so there is no key", id="nothing to seal"
        ),
        pytest.param(
            ("seal", "key", "FOLDER/certd.toml"),
            1,
            "certd.toml was left alone: line 1 is not 32 octets in base64; name another file",
            id="another file",
        ),
        pytest.param(
            ("seal", "key", "FOLDER/absent/key"), 1, "absent/key: No such file", id="no folder"
        ),
        pytest.param(("seal", "key"), 2, "Missing argument 'FILE'", id="no file"),
        pytest.param(("seal", "keys"), 2, "No such command 'keys'", id="no command"),
    ],
)
def test_wrong_uses_say_what_to_do(
    site: Site, words: tuple[str, ...], status: int, said: str
) -> None:
    before = site.path.read_text()
    done = site.certd(*(word.replace("FOLDER", str(site.folder)) for word in words))
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert site.path.read_text() == before
