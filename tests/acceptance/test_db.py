"""``certd db``: check, copy and put back the database; lost, it is made from the targets again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certd.testing.pebble import Pebble
from tests.site import Site

SECONDS = 30.0  # for the daemon to do what it will do; it takes one or two


@pytest.fixture
def site(pebble: Pebble, tmp_path: Path) -> Site:
    """One certificate, issued and deployed to two targets."""
    site = Site(tmp_path / "site", pebble).disk().disk("mail")
    name = f"{secrets.token_hex(6)}.example.com"
    site.certificate("www", f"www.{name}", targets=["web", "mail"]).renew()
    return site


@pytest.fixture
def issued(pebble: Pebble) -> Callable[[], int]:
    """How many certificates the CA has issued so far."""
    return lambda: len(pebble.ledger())


def in_place(site: Site, target: str = "web") -> str:
    return (site.folder / target / "www/current/fullchain.pem").read_text()


def until_verified(site: Site) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        entry = site.status()["www"]
        if entry["state"] == "ok":
            return
        time.sleep(0.1)
    pytest.fail(f"it never came to rest: {entry}")


# -- lost -----------------------------------------------------------------------------------


def lose(site: Site) -> None:
    shutil.rmtree(site.state)


def test_renew_issues_nothing_that_the_targets_hold(site: Site, issued: Callable[[], int]) -> None:
    before, served = issued(), in_place(site)
    lose(site)
    done = site.renew()
    assert "www: taken back in from its targets, version 1, valid until" in done.stdout
    assert issued() == before
    assert in_place(site) == served
    assert site.status()["www"]["state"] == "ok"
    assert "not due before" in site.renew().stdout
    assert issued() == before


def test_killed_once_it_is_taken_back_in_nothing_is_issued_either(
    site: Site, issued: Callable[[], int]
) -> None:
    before, there = issued(), in_place(site)
    lose(site)
    killed = site.certd("renew", CERTD_KILL_AT="adoption: version is current")
    assert killed.returncode == -signal.SIGKILL
    assert site.certd("renew").returncode == 0
    until_verified(site)
    assert (issued(), in_place(site)) == (before, there)


def test_the_daemon_issues_nothing_either(site: Site, issued: Callable[[], int]) -> None:
    before = issued()
    lose(site)
    with site.start("run") as daemon:
        until_verified(site)
        daemon.stop()
    assert (
        "www: taken back in from web, mail as version 1" in (site.folder / "certd.log").read_text()
    )
    assert issued() == before


def test_what_one_target_lacks_it_gets_from_the_other(
    site: Site, issued: Callable[[], int]
) -> None:
    before, served = issued(), in_place(site)
    lose(site)
    shutil.rmtree(site.folder / "web")
    site.renew()
    assert issued() == before
    assert in_place(site) == in_place(site, "mail") == served


def test_adopting_asks_no_ca(site: Site, issued: Callable[[], int]) -> None:
    before = issued()
    lose(site)
    site.tables["ca.test"]["directory"] = "https://127.0.0.1:9/dir"
    site.certificate("other", "other.example.com", targets=["web"])
    done = site.certd("db", "adopt")
    assert done.returncode == 1
    assert "www: taken back in from web, mail as version 1" in done.stdout
    assert "other: FAILED no target has it" in done.stdout
    assert site.status()["www"]["version"] == 1
    again = site.certd("db", "adopt", "www")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "www: no target has anything newer than version 1\n"
    assert issued() == before


def test_a_forced_renewal_is_no_adoption(site: Site, issued: Callable[[], int]) -> None:
    before = issued()
    lose(site)
    assert "issued, version 1" in site.renew("--force", "www").stdout
    assert issued() == before + 1


# -- copies ---------------------------------------------------------------------------------


def test_a_copy_made_beside_the_daemon_is_whole(site: Site) -> None:
    with site.start("run") as daemon:
        # All was verified before: only its own word says that it is the daemon by now.
        daemon.wait_until(lambda: "watching 1 certificates" in daemon.output())
        done = site.certd("db", "backup")
        assert (done.returncode, done.stderr) == (0, "")
        path = Path(done.stdout.strip())
        assert path.parent == site.state / "backups"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        refused = site.certd("db", "restore", str(path))
        assert refused.returncode == 1
        assert "in use by the daemon, pid" in refused.stderr
        assert "certificates 1, versions 1" in site.certd("db", "check").stdout
    assert site.certd("db", "check", str(path)).returncode == 0


def test_an_older_copy_does_not_lose_what_is_newer_at_the_targets(
    site: Site, issued: Callable[[], int]
) -> None:
    copy = site.folder / "copy.db"
    assert site.certd("db", "backup", str(copy)).stdout == f"{copy}\n"
    time.sleep(1)  # certificates tell by the second which is newer
    site.renew("--force", "www")
    before, served, newest = issued(), in_place(site), site.bundle("www")
    done = site.certd("db", "restore", str(copy))
    assert done.returncode == 0, done.stderr
    assert (
        f"{copy} is the database now; the one before is {site.state}/backups/replaced-"
        in done.stdout
    )
    assert "www: taken back in from web, mail as version 2" in done.stdout
    assert site.certd("db", "check").returncode == 0
    site.renew()
    assert issued() == before
    assert in_place(site) == served
    again = site.bundle("www")
    assert again is not None
    assert newest is not None
    assert again.key_pem.reveal() == newest.key_pem.reveal()


@pytest.mark.fault(row=42)
def test_a_damaged_database_is_told_and_put_right(site: Site, issued: Callable[[], int]) -> None:
    copy, path = site.folder / "copy.db", site.state / "certd.db"
    site.certd("db", "backup", str(copy))
    content = bytearray(path.read_bytes())
    content[-4096:-4088] = b"\xff" * 8
    path.write_bytes(content)
    before = issued()
    for words in (["renew"], ["run"], ["db", "backup"], ["db", "adopt"]):
        done = site.certd(*words)
        assert done.returncode == 1, words
        assert "certd db restore FILE" in done.stderr
    found = site.certd("db", "check")
    assert found.returncode == 1
    assert f"{path}: SQLite finds it damaged" in found.stdout
    assert site.certd("db", "restore", str(copy)).returncode == 0
    site.renew()
    assert issued() == before


def test_a_row_that_is_lost_is_no_reason_to_issue(site: Site, issued: Callable[[], int]) -> None:
    for target in ("web", "mail"):
        shutil.rmtree(site.folder / target)
    with closing(sqlite3.connect(site.state / "certd.db")) as database:
        database.execute("DELETE FROM version")
        database.execute("UPDATE lineage SET due_at = 0")
        database.commit()
    before = issued()
    done = site.certd("renew")
    assert done.returncode == 1
    assert "lost its current version, and is damaged" in done.stdout
    assert issued() == before
    assert "its current version, 1, is not there" in site.certd("db", "check").stdout
    site.renew("--force", "www")
    assert issued() == before + 1


def test_killed_anywhere_a_restore_leaves_one_whole_database(
    site: Site, issued: Callable[[], int], tmp_path: Path
) -> None:
    copy = site.folder / "copy.db"
    site.certd("db", "backup", str(copy))
    site.renew("--force", "www")
    before, places = issued(), 0
    for number in range(1, 20):
        twin = site.copy(tmp_path / f"{number}")
        killed = twin.certd("db", "restore", str(copy), CERTD_KILL_AT=str(number))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        assert twin.certd("db", "check").returncode == 0, killed.stderr
        assert twin.certd("db", "restore", str(copy)).returncode == 0
        assert twin.certd("renew").returncode == 0
        places += 1
    assert places >= 6
    assert issued() == before


# -- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["check"], ["backup"], ["restore"], ["adopt"]])
def test_every_command_explains_itself(site: Site, words: list[str]) -> None:
    done = site.certd("db", *words, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: certd db {words[0]}")
    assert "--config" in done.stdout


def test_without_a_word_the_commands_are_shown(site: Site) -> None:
    done = site.certd("db")
    assert done.returncode in (0, 2)
    assert "Usage: certd db" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(["frobnicate"], 2, "No such command 'frobnicate'", id="no such command"),
        pytest.param(["restore"], 2, "Missing argument 'FILE'", id="restore nothing"),
        pytest.param(["restore", "/"], 2, "is a directory", id="restore a folder"),
        pytest.param(["backup", "a", "b"], 2, "unexpected extra argument", id="two copies"),
        pytest.param(["adopt", "mail"], 2, "no certificate is named mail", id="a stranger"),
        pytest.param(["restore", "/nowhere"], 1, "No such file", id="restore what is not there"),
        pytest.param(["check", "/nowhere"], 1, "No such file", id="check what is not there"),
        pytest.param(["backup", "/no/where"], 1, "No such file", id="backup to nowhere"),
    ],
)
def test_wrong_uses_are_told(site: Site, words: list[str], status: int, said: str) -> None:
    done = site.certd("db", *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert site.certd("db", "check").returncode == 0


def test_root_leaves_the_copy_to_the_folders_owner(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    for path in (site.state, *site.state.rglob("*")):
        os.chown(path, 4711, 4711)
    copy = Path(site.certd("db", "backup").stdout.strip())
    assert copy.stat().st_uid == copy.parent.stat().st_uid == 4711
    assert site.certd("db", "restore", str(copy)).returncode == 0
    owners = {path.stat().st_uid for path in site.state.rglob("*")}
    assert owners == {4711}
