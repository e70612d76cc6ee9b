"""``certd run`` as a process: real signals, a real CA, and systemd's end of its socket."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.server
import os
import re
import secrets
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.engine import node
from certd.known import Lineage, TargetState
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.processes import Child
from certd.testing.proxy import FaultyCA
from tests.site import Site

STOP_SECONDS = 10.0  # what is promised for SIGTERM
ROOM = 10.0  # seconds more, for a machine that has other things to do
DAY = timedelta(days=1)
NOW = datetime.now(UTC)
_STARTED = ": watching "  # in the log, when it is ready


@pytest.fixture
def site(pebble: Pebble, tmp_path: Path) -> Site:
    return Site(tmp_path / "site", pebble)


@pytest.fixture
def name() -> str:
    """A name that no other test has asked the CA for."""
    return f"{secrets.token_hex(6)}.example.com"


@contextlib.contextmanager
def running(site: Site, *words: str, **environment: str) -> Iterator[Child]:
    """The daemon, stopped at the end as systemd does it; it must end well, and soon."""
    before = log(site).count(_STARTED)
    with site.start("run", *words, **environment) as daemon:
        daemon.wait_until(lambda: log(site).count(_STARTED) > before)
        yield daemon
        stop(daemon)


def stop(daemon: Child) -> None:
    daemon.send(signal.SIGTERM)
    assert daemon.wait(STOP_SECONDS + ROOM) == 0, daemon.output()


def log(site: Site) -> str:
    path = site.folder / "certd.log"
    return path.read_text() if path.exists() else ""


def lineage(site: Site, name: str = "www") -> Lineage:
    with site.store() as store:
        found = {spec.name: row for spec, row in store.lineages.all()}
    return found.get(name, Lineage(name))


def version(site: Site, name: str = "www") -> int:
    """The number of the current version; 0 without one."""
    current = lineage(site, name).current
    return current.number if current else 0


def phase(site: Site, target: str = "web", name: str = "www") -> str:
    return lineage(site, name).targets.get(target, TargetState(target)).phase


def wait_for_version(daemon: Child, site: Site, number: int, name: str = "www") -> None:
    daemon.wait_until(lambda: version(site, name) >= number)


def hang_up(daemon: Child, site: Site) -> None:
    """SIGHUP, and the answer to it in the log."""
    answer = re.compile("configuration reread|was not taken over")
    before = len(answer.findall(log(site)))
    daemon.send(signal.SIGHUP)
    daemon.wait_until(lambda: len(answer.findall(log(site))) > before)


def issued(site: Site, pebble: Pebble) -> list[str]:
    """The serials of all that the CA has signed for the keys in this store, oldest first."""
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        rows = database.execute("SELECT url FROM certificate_order WHERE url IS NOT NULL")
        orders = {str(url).rpartition("/")[2] for (url,) in rows}
    return [item.serial for item in pebble.ledger() if item.order in orders]


class Systemd:
    """What a real datagram socket was told."""

    def __init__(self) -> None:
        self.address = f"@certd-test-{secrets.token_hex(8)}"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.heard.append(message.decode())

    def first(self, word: str) -> int:
        """Where it was first heard; what was sent last may not have been read yet."""
        deadline = time.monotonic() + 30
        while not self.has(word) and time.monotonic() < deadline:
            time.sleep(0.01)
        return next(at for at, text in enumerate(self.heard) if word in text.splitlines())

    def has(self, word: str) -> bool:
        return any(word in text.splitlines() for text in list(self.heard))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", "\0" + self.address[1:])
        self._thread.join()
        self._socket.close()


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with contextlib.closing(Systemd()) as listening:
        yield listening


# -- start, reload, stop ------------------------------------------------------------------


def test_it_issues_and_deploys_at_start_and_tells_systemd(
    site: Site, name: str, systemd: Systemd
) -> None:
    site.certificate("www", name, targets=["web"]).disk()
    told = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
    with running(site, **told) as daemon:
        daemon.wait_until(lambda: phase(site) == "verified")
        daemon.wait_until(lambda: systemd.has("WATCHDOG=1"))
        hang_up(daemon, site)
        assert site.status()["www"]["state"] == "ok"
        assert f"running, pid {daemon.pid}" in site.certd("status").stdout
    ready, reloading = systemd.first("READY=1"), systemd.first("RELOADING=1")
    assert ready < reloading < systemd.first("STOPPING=1")
    assert "MONOTONIC_USEC=" in systemd.heard[reloading]
    assert any("READY=1" in text for text in systemd.heard[reloading + 1 :])
    assert "STATUS=1 certificates" in systemd.heard[ready]
    deployed = site.folder / "web" / "www" / "current" / "fullchain.pem"
    bundle = site.bundle("www")
    assert bundle is not None
    assert deployed.read_text() == bundle.fullchain_pem


@pytest.mark.fault(row=43)
def test_a_second_daemon_says_who_has_the_state_folder(site: Site) -> None:
    with running(site) as daemon:
        second = site.certd("run")
        assert second.returncode == 1
        assert "already runs on this state folder" in second.stderr
        assert f"pid {daemon.pid}" in second.stderr
        assert "Traceback" not in second.stderr
    with running(site):
        pass  # nothing is left locked


def test_a_new_certificate_is_taken_up_and_a_removed_one_is_kept_but_not_renewed(
    site: Site, name: str, pebble: Pebble
) -> None:
    site.certificate("www", f"www.{name}")
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        first = site.bundle("www")
        assert first is not None
        del site.tables["certificate.www"]
        site.certificate("mail", f"mail.{name}")
        hang_up(daemon, site)
        wait_for_version(daemon, site, 1, "mail")
        # Even if its CA says that it must be renewed now.
        pebble.set_renewal_info(first.leaf_pem, NOW - 2 * DAY, NOW - DAY)
        hang_up(daemon, site)
        mail = site.bundle("mail")
        assert mail is not None
        pebble.set_renewal_info(mail.leaf_pem, NOW - 2 * DAY, NOW - DAY)
        hang_up(daemon, site)
        wait_for_version(daemon, site, 2, "mail")
    assert list(site.status()) == ["mail"]
    with site.store() as store:
        kept = store.lineages.bundle("www", 1)
    assert kept.key_pem == first.key_pem
    assert len(issued(site, pebble)) == 3


@pytest.mark.fault(row=53)
def test_a_wrong_configuration_is_told_and_the_old_one_stays(
    site: Site, name: str, pebble: Pebble
) -> None:
    site.certificate("www", name)
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        good = site.path.read_text()
        site.path.write_text(good.replace("names =", "nmaes ="))
        hang_up(daemon, site)
        line = next(at for at, text in enumerate(good.splitlines(), 1) if "names =" in text)
        assert f"{site.path}:{line}: [certificate.www] nmaes" in log(site)
        assert "the old one stays" in log(site)
        site.path.write_text(good.replace('state = "state"', 'state = "elsewhere"'))
        hang_up(daemon, site)
        assert "restart certd to move it" in log(site)
        assert not (site.folder / "elsewhere").exists()
        site.path.write_text(good)
        renewed_by_window(daemon, site, pebble)


def test_what_the_machine_lacks_is_told_and_stops_nothing(site: Site, name: str) -> None:
    site.certificate("www", name, targets=["web"]).disk(group="none-of-that-name")
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        said = '[target.web] group: there is no group "none-of-that-name" on this machine'
        assert log(site).count(f" {said}") == 1
        hang_up(daemon, site)
        assert log(site).count(f" {said}") == 2
        assert "the old one stays" not in log(site)


def renewed_by_window(daemon: Child, site: Site, pebble: Pebble) -> None:
    """Move the CA's window into the past, and see it followed."""
    before = site.bundle("www")
    assert before is not None
    pebble.set_renewal_info(before.leaf_pem, NOW - 2 * DAY, NOW - DAY, "https://why.example/1")
    hang_up(daemon, site)
    wait_for_version(daemon, site, before.version + 1)


def test_a_window_that_moved_into_the_past_is_followed_after_sighup(
    site: Site, name: str, pebble: Pebble
) -> None:
    site.certificate("www", name, targets=["web"]).disk()
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        renewed_by_window(daemon, site, pebble)
        daemon.wait_until(
            lambda: lineage(site).targets["web"].version == 2 and phase(site) == "verified"
        )
    assert len(issued(site, pebble)) == 2


def test_a_signal_that_comes_to_another_thread_is_heard(site: Site) -> None:
    """The system chooses the thread; the main one need not be woken by that."""
    with site.start("run") as daemon:
        daemon.wait_until(lambda: _STARTED in log(site))
        threads = [int(name) for name in os.listdir(f"/proc/{daemon.pid}/task")]
        other = next(thread for thread in threads if thread != daemon.pid)
        assert ctypes.CDLL(None).tgkill(daemon.pid, other, int(signal.SIGTERM)) == 0
        assert daemon.wait(STOP_SECONDS + ROOM) == 0, daemon.output()


def test_signals_before_it_is_ready_are_for_later(site: Site) -> None:
    daemon = site.start("run")
    daemon.wait_until(lambda: (site.state / "daemon.lock").exists())

    def started() -> bool:
        daemon.send(signal.SIGHUP)
        return _STARTED in log(site)

    daemon.wait_until(started)
    daemon.wait_until(lambda: "configuration reread" in log(site))
    stop(daemon)


# -- in the middle of an order ------------------------------------------------------------


def _validated(ca: FaultyCA, pebble: Pebble) -> bool:
    done = pebble.log.read_text()
    ids = [item.path.rpartition("/")[2] for item in ca.acted_on("challenge")]
    return any(f"set VALID by completed challenge {id}" in done for id in ids)


def _asks_to_wait(exchange: Exchange, forward: Forward) -> Reply:
    return forward().with_header("Retry-After", "30")


@pytest.mark.fault(row=52)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_stopped_in_mid_order_it_goes_on_with_the_same_order(
    number: signal.Signals, pebble: Pebble, name: str, tmp_path: Path
) -> None:
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca).certificate("www", name)
        ca.on("challenge", _asks_to_wait)
        with site.start("run") as daemon:
            # Not in the middle of the CA's fetch: a cut one would cost the order.
            daemon.wait_until(lambda: _validated(ca, pebble))
            begun = time.monotonic()
            daemon.send(number)
            assert daemon.wait(STOP_SECONDS + ROOM) in (0, -number)
            assert time.monotonic() - begun < 8, "it waited though nothing ran"
        assert lineage(site).ordering
        with running(site) as daemon:
            wait_for_version(daemon, site, 1)
        assert "going on with its order" in log(site)
        assert len(ca.acted_on("new-order")) == 1
        assert len(ca.acted_on("finalize")) == 1
    assert len(issued(site, pebble)) == 1


@pytest.mark.fault(row=52)
def test_sigterm_while_the_ca_keeps_silent(pebble: Pebble, name: str, tmp_path: Path) -> None:
    """It gives up by itself, in time to keep what is promised; the CA would take a minute."""
    assert node.STOP_SECONDS <= STOP_SECONDS - 2, "no time is left to end the rest"
    answer = threading.Event()

    def silence(exchange: Exchange, forward: Forward) -> Reply | None:
        answer.wait(60)
        return None

    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca).certificate("www", name)
        ca.on("finalize", silence)
        try:
            with site.start("run") as daemon:
                daemon.wait_until(lambda: bool(ca.seen("finalize")))
                stop(daemon)
            assert "stopped in the middle of something" in log(site)
        finally:
            answer.set()
        ca.honest()
        with running(site) as daemon:
            wait_for_version(daemon, site, 1)
        assert len(ca.acted_on("new-order")) == 1
    assert len(issued(site, pebble)) == 1


# -- failures -----------------------------------------------------------------------------


def test_failing_certificates_hold_nobody_up_and_their_back_off_survives_a_restart(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(blocklist=("blocked.example.com",), retry_after=(1, 1))
    assert pebble.dns is not None
    pebble.dns.add_a("away.example.com", "127.0.0.9")  # where nobody listens
    site = Site(tmp_path / "site", pebble)
    site.certificate("blocked", "www.blocked.example.com")
    site.certificate("away", "away.example.com").certificate("www", "www.example.com")
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        daemon.wait_until(lambda: all(lineage(site, x).failure for x in ("blocked", "away")))
    before = site.status()
    assert before["www"]["last_error"] is None
    for failing, words in (("blocked", "www.blocked.example.com"), ("away", "away.example.com")):
        entry = before[failing]
        assert entry["state"] == "failing"
        assert entry["failures"] == 1
        assert words in " ".join(map(str, entry["last_error"].values()))
    wait = datetime.fromisoformat(before["away"]["next_attempt"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < wait < timedelta(seconds=67)
    assert before["blocked"]["next_attempt"] is None
    assert "stopped until you act" in before["blocked"]["renew_reason"]
    assert "`certd renew away`" in before["away"]["last_error"]["next"]
    assert site.certd("status").returncode == 1
    with running(site) as daemon:
        hang_up(daemon, site)
        assert site.status() == before
    said = site.certd("status").stdout
    assert (said.count("next attempt"), said.count("`certd renew NAME`")) == (1, 2)


# -- beside the daemon --------------------------------------------------------------------


@pytest.mark.fault(row=43)
def test_renew_beside_the_daemon_issues_exactly_once(site: Site, name: str, pebble: Pebble) -> None:
    site.certificate("www", name, targets=["web"]).disk()
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        done = site.renew("www", "--force")
        assert "www: renewed, version 2" in done.stdout
        assert done.stderr == ""
        assert site.status()["www"]["targets"][0]["serving"] == 2
        # The daemon has a look of its own, and nothing to add.
        hang_up(daemon, site)
        daemon.wait_until(lambda: (lineage(site).ask_again or NOW) > NOW + DAY / 24)
    assert version(site) == 2
    assert len(issued(site, pebble)) == 2


def test_a_dry_run_beside_the_daemon_leaves_the_store_as_it_was(
    pebble: Pebble, start_pebble: Callable[..., Pebble], name: str, tmp_path: Path
) -> None:
    staging = start_pebble(http_port=pebble.http_port, retry_after=(1, 1))
    site = Site(tmp_path / "site", pebble).certificate("www", name, targets=["web"]).disk()
    roots = tmp_path / "roots.pem"
    roots.write_text(pebble.ca_bundle.read_text() + staging.ca_bundle.read_text())
    site.tables["ca.test"].update(ca_bundle=str(roots), staging=staging.directory)
    site.write()
    with running(site) as daemon:
        daemon.wait_until(lambda: phase(site) == "verified")
        daemon.wait_until(lambda: not _rows(site)["holders"])
        before = _rows(site)
        done = site.renew("--dry-run")
        assert "www: dry run: the staging CA issued it; nothing was kept" in done.stdout
        assert _rows(site) == before
    assert len(staging.ledger()) == 1
    assert len(issued(site, pebble)) == 1


def _rows(site: Site) -> Mapping[str, list[object]]:
    """All that the database holds, by table; and who holds a lease."""
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
        tables = [name for name in names if database.execute(_IS_TABLE, (name,)).fetchone()]
        rows = {name: list(database.execute(f"SELECT * FROM {name}")) for name in tables}
        holders = "SELECT holder FROM lineage WHERE holder IS NOT NULL"
        return {**rows, "holders": list(database.execute(holders))}


_IS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"


# -- what must not be in the log ----------------------------------------------------------


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Answers every challenge, wrongly."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"not yours")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def stranger(port: int) -> Iterator[str]:
    """An address of this machine at which somebody else answers."""
    address = "127.0.0.7"
    with http.server.HTTPServer((address, port), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield address
        server.shutdown()
        thread.join()


def test_no_key_and_no_key_authorization_is_in_the_debug_log(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(retry_after=(1, 1))
    assert pebble.dns is not None
    with FaultyCA(pebble, tmp_path / "proxy") as ca, stranger(pebble.http_port) as address:
        pebble.dns.add_a("theirs.example.com", address)
        pebble.dns.add_a("seen.example.com", address)
        site = Site(tmp_path / "site", ca).disk().disk("bad", reload=["false"])
        site.certificate("www", "www.example.com", targets=["web", "bad"])
        site.certificate("rsa", "rsa.example.com", key="rsa-2048")
        site.certificate("theirs", "theirs.example.com", self_check=False)
        site.certificate("seen", "seen.example.com")
        with running(site, "--debug") as daemon:
            daemon.wait_until(lambda: phase(site, "bad") == "failed")
            wait_for_version(daemon, site, 1, "rsa")
            daemon.wait_until(lambda: all(lineage(site, x).failure for x in ("theirs", "seen")))
            ca.on("certificate", lambda exchange, forward: Reply(200, {}, b"<html>"), times=2)
            beside = site.certd("renew", "www", "--force", "--debug")
            tokens = {challenge["token"] for challenge in _http_challenges(ca)}
    with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
        keys = {
            str(key)
            for table in ("version", "account", "certificate_order")
            for (key,) in database.execute(f"SELECT key_pem FROM {table} WHERE key_pem NOTNULL")
        }
    assert len(keys) >= 3
    assert len(tokens) >= 3
    written = log(site) + beside.stdout + beside.stderr + str(site.status())
    assert "rsa: version 1 issued" in written, "this is not the log"
    assert "did not match this challenge" in written, "this failure shows what was expected"
    assert "the challenge of seen.example.com is not to be seen" in written
    for key in keys:
        lines = key.splitlines()[1:-1]
        for text in (*lines, base64.b64decode("".join(lines)).hex()[-64:]):
            assert text not in written
    assert "PRIVATE KEY" not in written
    for token in tokens:  # what follows in a key authorization is a thumbprint, which is public
        assert f"{token}." not in written


def _http_challenges(ca: FaultyCA) -> Iterator[dict[str, str]]:
    for exchange in ca.seen("authorization"):
        if exchange.reply and exchange.reply.status == 200:
            challenges = exchange.reply.json()["challenges"]
            yield from (item for item in challenges if item["type"] == "http-01")


def test_the_daemon_redirects_if_it_is_to(site: Site, name: str) -> None:
    site.certificate("www", name)
    site.tables["http"]["redirect"] = "https"
    site.write()
    host, _, port = site.tables["http"]["listen"][0].rpartition(":")
    with running(site) as daemon:
        wait_for_version(daemon, site, 1)
        asked = http.client.HTTPConnection(host, int(port), timeout=10)
        asked.request("GET", "/shop?page=2", headers={"Host": name})
        answer = asked.getresponse()
        assert (answer.status, answer.headers["Location"]) == (301, f"https://{name}/shop?page=2")
        asked.close()


def test_what_renew_has_read_before_the_daemon_is_not_lost(
    site: Site, pebble: Pebble, name: str
) -> None:
    """A new certificate and a moved target, taken over by a command beside the old daemon."""
    site.certificate("www", name, targets=["web"])
    site.certificate("two", f"two.{name}", targets=["web"]).disk()
    elsewhere = site.folder / "elsewhere"

    def put_off() -> bool:
        with contextlib.closing(sqlite3.connect(site.state / "certd.db")) as database:
            query = "SELECT count(*) FROM lineage WHERE due_at > ? AND name IN ('new', 'two')"
            soon = datetime.now(UTC).timestamp() * 1e6
            return bool(database.execute(query, (soon,)).fetchone()[0] == 2)

    with running(site) as daemon:
        daemon.wait_until(lambda: {phase(site, name=n) for n in ("www", "two")} == {"verified"})
        site.certificate("new", f"new.{name}")
        site.disk(path=str(elsewhere / "{name}"))
        site.renew("www")
        assert (elsewhere / "www" / "current").exists()
        daemon.wait_until(put_off)  # the daemon does not know of either
        assert (phase(site, name="two"), version(site, "new")) == ("pending", 0)
        hang_up(daemon, site)
        wait_for_version(daemon, site, 1, "new")
        daemon.wait_until(lambda: phase(site, name="two") == "verified")
        assert (elsewhere / "two" / "current").exists()
    assert version(site, "two") == 1
