"""``certd.Certd`` inside a program: a server under load, beside a daemon, the page's examples."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certd import Certd
from certd import config as configuration
from certd.config import BadConfig
from certd.errors import CertdError, ConfigError
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import RunningPebble
from certd.testing.processes import Child
from certd.testing.proxy import FaultyCA
from certd.testing.tls import probe
from tests import signing
from tests.site import Site

PAGE = (Path(__file__).parents[2] / "docs/library.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^```python (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SECONDS = 30.0  # for a certificate; far more than it takes
RENEWALS = 4


@pytest.fixture
def host() -> str:
    """A name that no other test has asked the CA for."""
    return f"{secrets.token_hex(6)}.example.com"


@pytest.fixture
def site(pebble: RunningPebble, tmp_path: Path, host: str) -> Site:
    return Site(tmp_path / "site", pebble).certificate("www", host)


@pytest.fixture
def root(pebble: RunningPebble, tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_text(pebble.root_pem())
    return path


@pytest.fixture(autouse=True)
def _ends_cleanly() -> Iterator[None]:
    """No thread of certd's is left, no signal and no logger is touched."""
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    loggers = [(logging.getLogger(name).handlers[:]) for name in ("", "certd")]
    yield
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert loggers == [(logging.getLogger(name).handlers[:]) for name in ("", "certd")]
    ours = ("certd", "engine", "http01", "tls-alpn-01", "self-check")
    for thread in threading.enumerate():
        if thread.name.startswith(ours):
            thread.join(SECONDS)
            assert not thread.is_alive(), thread.name


# -- a server under load --------------------------------------------------------------------


class Load:
    """Clients of an echo server: each connects anew all the time, some stay for good."""

    def __init__(self, port: int, host: str, root: Path) -> None:
        self._where = ("127.0.0.1", port)
        self._host = host
        self._trust = ssl.create_default_context(cafile=root)
        self.serials: dict[str, int] = {}  # handshakes by what was shown, in order
        self.echoes = 0  # on connections that stay
        self.enough = False

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            *self._where, ssl=self._trust, server_hostname=self._host
        )
        serial = str(writer.get_extra_info("peercert")["serialNumber"]).lower()
        self.serials[serial] = self.serials.get(serial, 0) + 1
        return reader, writer

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = secrets.token_hex(100).encode() + b"\n"
        writer.write(line)
        assert await reader.readline() == line

    async def come_and_go(self) -> None:
        while not self.enough:
            reader, writer = await self._connect()
            await self._echo(reader, writer)
            writer.close()
            await writer.wait_closed()

    async def stay(self) -> None:
        reader, writer = await self._connect()
        while not self.enough:
            await self._echo(reader, writer)
            self.echoes += 1
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_an_asyncio_server_under_load_while_certificates_of_a_minute_change(
    start_pebble: Callable[..., RunningPebble], tmp_path: Path, host: str
) -> None:
    """No handshake fails, no connection is lost: what any client raises fails the test."""
    ca = start_pebble(profiles={"default": 60}, retry_after=(1, 1))
    site = Site(tmp_path / "site", ca).certificate("www", host)
    root = tmp_path / "root.pem"
    root.write_text(ca.root_pem())
    problems: list[str] = []

    async def serve(certd: Certd) -> Load:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(str(context)))
        version = await asyncio.to_thread(certd.wait, "www", SECONDS)
        server = await asyncio.start_server(
            echo, "127.0.0.1", 0, ssl=certd.ssl_context("www"), backlog=200
        )
        load = Load(server.sockets[0].getsockname()[1], host, root)
        clients = [asyncio.create_task(load.stay()) for _ in range(5)]
        clients += [asyncio.create_task(load.come_and_go()) for _ in range(5)]
        for _ in range(RENEWALS):
            certd.renew("www", force=True)
            version = await asyncio.to_thread(certd.wait, "www", SECONDS, newer_than=version)
            await asyncio.sleep(0.2)  # for some handshakes with it
        load.enough = True
        await asyncio.gather(*clients)
        server.close()
        await server.wait_closed()
        return load

    with Certd(site.path) as certd:
        load = asyncio.run(serve(certd))
        last = certd.status()["www"]
    assert not problems
    assert len(load.serials) == RENEWALS + 1
    assert list(load.serials)[-1] == last["serial"]
    assert sum(load.serials.values()) > 50
    assert load.echoes > 50


# -- the page ----------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["asyncio", "threads"])
def test_the_pages_servers_serve_and_follow_a_renewal(
    example: str, site: Site, host: str, root: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    program = site.folder / "program.py"
    program.write_text(EXAMPLES[example].replace("8443", str(port)))
    with Child([sys.executable, str(program)], site.folder / "log", cwd=site.folder) as child:
        child.wait_until(lambda: bool(_shown(port, host, root)), SECONDS)
        first = _shown(port, host, root)
        site.renew("--force", "www")  # another process's: it follows the store
        child.wait_until(lambda: _shown(port, host, root) not in ("", first), SECONDS)
        assert _answer(port, host, root, example)
        child.send(signal.SIGINT)
        child.wait(SECONDS)
    with site.store() as store:
        assert list(store.leases.free_the_dead()) == []
    assert not list((site.state / "workers").iterdir())


def _shown(port: int, host: str, root: Path) -> str:
    """The serial that it shows; "" if it is not there."""
    try:
        return probe(port, host, root=root).serial
    except ConnectionError:
        return ""


def _answer(port: int, host: str, root: Path, example: str) -> bool:
    context = ssl.create_default_context(cafile=root)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wanted = b"GET / HTTP/1.0\r\n\r\n" if example == "asyncio" else b"hello\n"
        received = b""
        while not received.endswith(wanted):
            piece = tls.recv(4096)
            assert piece, received
            received += piece
    return True


def test_the_pages_tables_are_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Certd] = {}
    exec(compile(EXAMPLES["tables"], "docs/library.md", "exec"), found)
    tables = found["certd"]._source
    assert isinstance(tables, dict)
    config = configuration.load_tables(tables)
    assert config.state == tmp_path / "state"
    assert config.certificates.keys() == {"www", "mail"}


# -- beside others ----------------------------------------------------------------------------


def test_both_of_a_pair_are_served_each_to_whom_it_fits(site: Site, host: str) -> None:
    """OpenSSL takes one kind of signature at a time, by TLS 1.3."""
    site.certificate("www", host, key=["ec-p256", "rsa-2048"])
    with Certd(site.path) as certd, socket.create_server(("127.0.0.1", 0)) as listening:
        context = certd.ssl_context("www")
        for number in (1, 2):
            for name in ("www", "www.rsa"):
                certd.wait(name, SECONDS, newer_than=number - 1)
            status = certd.status()
            for name, kind in (("www", "ECDSA+SHA256"), ("www.rsa", "RSA-PSS+SHA256")):
                assert shown_to(kind, context, listening, host) == status[name]["fingerprint"]
            certd.renew("www", force=True)  # both


def shown_to(kind: str, context: ssl.SSLContext, listening: socket.socket, host: str) -> str:
    """The fingerprint of what a client that takes these signatures only is shown."""
    port = listening.getsockname()[1]
    words = ["s_client", "-connect", f"127.0.0.1:{port}", "-servername", host, "-sigalgs", kind]
    with subprocess.Popen(
        ["openssl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as client:
        listening.settimeout(SECONDS)
        connection, _ = listening.accept()
        connection.settimeout(SECONDS)
        with context.wrap_socket(connection, server_side=True):
            shown, _ = client.communicate(timeout=SECONDS)
    pem = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.DOTALL)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[0])).hexdigest()


def test_under_a_seal_it_is_the_same_and_the_seal_stays(site: Site, host: str) -> None:
    with Certd(site.sealed().path) as certd:
        certd.wait("www", SECONDS)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            shown = shown_to("ECDSA+SHA256", certd.ssl_context("www"), listening, host)
        assert shown == certd.status()["www"]["fingerprint"]
        assert b"PRIVATE KEY" not in (site.state / "certd.db").read_bytes()
        del site.tables["certd"]["seal"]
        site.write()
        with pytest.raises(ConfigError, match="seal has changed"):
            certd.reload()


def test_a_certificate_whose_key_is_elsewhere_is_issued_and_not_served(
    site: Site, host: str
) -> None:
    signing.make(site.folder, f"DNS:{host}")
    site.certificate("www", host, csr="www.csr")
    with Certd(site.path) as certd:
        assert certd.wait("www", SECONDS) == 1
        with pytest.raises(ConfigError, match="certd has never seen its key"):
            certd.ssl_context("www")


def test_beside_a_daemon_nothing_is_issued_twice(site: Site, host: str) -> None:
    with site.start("run") as daemon:
        daemon.wait_until(lambda: ": watching " in (site.folder / "certd.log").read_text())
        with Certd(site.path) as certd:
            assert certd.wait("www", SECONDS) == 1
            certd.renew("www", force=True)
            assert certd.wait("www", SECONDS, newer_than=1) == 2
            site.renew("--force", "www")
            assert certd.wait("www", SECONDS, newer_than=2) == 3
            time.sleep(0.5)
            assert certd.wait("www") == 3
        # It has gone, and the daemon goes on.
        assert len(list((site.state / "workers").iterdir())) == 1
        with pytest.raises(ConfigError, match="a certd daemon works in"):
            Certd({"certd": {"state": site.state}}).start()
        daemon.send(signal.SIGTERM)
        assert daemon.wait(SECONDS) == 0


def test_two_in_one_process_share_the_work(site: Site) -> None:
    heard: list[tuple[str, int]] = []
    with Certd(site.path) as one, Certd(str(site.path)) as other:
        other.subscribe(lambda name, version: heard.append((name, version)))
        waiting = [threading.Thread(target=one.wait, args=("www", SECONDS)) for _ in range(4)]
        for thread in waiting:
            thread.start()
        assert other.wait("www", SECONDS) == 1
        for thread in waiting:
            thread.join()
        assert one.status().keys() == other.status().keys() == {"www"}
        assert one.status()["www"]["version"] == 1
    assert heard in ([("www", 1)], [])  # it may have come before somebody listened


def test_another_configuration_in_between_is_told(
    site: Site, host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certd.engine.resident.TIDY_TICK", 0.1)
    with Certd(site.path) as certd:
        certd.wait("www", SECONDS)
        site.certificate("mail", f"mail.{host}")
        site.renew("mail")
        deadline = time.monotonic() + SECONDS
        while "by another configuration" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        certd.reload()
        assert certd.wait("mail", SECONDS) == 1
    assert caplog.text.count("by another configuration") == 1


# -- one by one -------------------------------------------------------------------------------


def test_it_tells_of_new_versions_and_survives_who_listens(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, int]] = []
    there = threading.Event()

    def broken(name: str, version: int) -> None:
        raise RuntimeError("the program's own")

    def listen(name: str, version: int) -> None:
        heard.append((name, version))
        there.set()

    with Certd(site.path) as certd:
        certd.wait("www", SECONDS)
        certd.subscribe(broken)
        end = certd.subscribe(listen)
        for version in (2, 3):
            there.clear()
            certd.renew("www", force=True)
            assert there.wait(SECONDS)
            assert heard[-1] == ("www", version)
        end()
        end()
    assert heard == [("www", 2), ("www", 3)]
    assert "a callback failed" in caplog.text
    with Certd(site.path) as certd:  # what is there is no news
        certd.subscribe(listen)
        assert certd.wait("www", 0) == 3
        assert certd.status()["www"]["state"] == "ok"
    assert len(heard) == 2


def test_a_context_outlives_a_stop_and_follows_the_next_start(site: Site, host: str) -> None:
    certd = Certd(site.path)
    with pytest.raises(CertdError, match="does not run"):
        certd.ssl_context("www")
    certd.stop()
    with certd:
        context = certd.ssl_context("www")
        certd.wait("www", SECONDS)
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(SECONDS)
        thread = threading.Thread(target=_accept, args=(server, context, 2))
        thread.start()
        port = server.getsockname()[1]
        first = probe(port, host).serial
        with certd:
            assert certd.start() is certd
            certd.renew("www", force=True)
            certd.wait("www", SECONDS, newer_than=1)
            assert probe(port, host).serial != first
        thread.join()
    with pytest.raises(CertdError, match="does not run"):
        certd.wait("www")


def _accept(server: socket.socket, context: ssl.SSLContext, times: int) -> None:
    for _ in range(times):
        connection, _ = server.accept()
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)


def test_a_program_stops_in_the_middle_of_an_order_and_goes_on_with_it(
    site: Site, pebble: RunningPebble, tmp_path: Path, host: str
) -> None:
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "other", ca).certificate("www", host)
        held = threading.Event()

        def processing(exchange: Exchange, forward: Forward) -> Reply:
            if exchange.kind == "finalize":
                held.set()
            return forward().but(status="processing") if held.is_set() else forward()

        ca.on("finalize", processing)
        ca.on("order", processing)
        with Certd(site.path) as certd:
            assert held.wait(SECONDS)
            assert certd.status()["www"]["state"] == "issuing"
        ca.honest()
        with Certd(site.path) as certd:
            assert certd.wait("www", SECONDS) == 1
        assert len(ca.acted_on("new-order")) == 1


def test_waiting_in_vain_says_why(site: Site) -> None:
    site.tables["ca.test"]["agree_tos"] = False
    site.write()
    with Certd(site.path) as certd:
        deadline = time.monotonic() + SECONDS
        while certd.status()["www"]["state"] != "failing":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(CertdError, match=r"no certificate www .*agree_tos = true"):
            certd.wait("www", 0.1)
        waiting = threading.Timer(0.2, certd.stop)
        waiting.start()
        with pytest.raises(CertdError, match="does not run"):
            certd.wait("www")
        waiting.join()


def test_who_waits_for_what_is_not_wanted_any_more_is_told(site: Site, host: str) -> None:
    site.certificate("mail", f"mail.{host}")
    told: list[CertdError] = []

    def wait() -> None:
        try:
            certd.wait("mail", newer_than=9)
        except CertdError as error:
            told.append(error)

    with Certd(site.path) as certd:
        waiting = threading.Thread(target=wait)
        waiting.start()
        del site.tables["certificate.mail"]
        site.write()
        certd.reload()
        waiting.join(SECONDS)
        assert not waiting.is_alive()
    [error] = told
    assert isinstance(error, ConfigError)
    assert error.what == "no certificate is named mail"


def test_what_another_configuration_does_not_want_is_no_riddle(site: Site, host: str) -> None:
    site.certificate("mail", f"mail.{host}")
    with Certd(site.path) as certd:
        del site.tables["certificate.mail"]
        site.write()
        site.renew()
        with pytest.raises(ConfigError, match="mail is not wanted any more: another certd"):
            certd.wait("mail", 0.1, newer_than=9)


def test_a_context_that_cannot_follow_is_tried_again_and_stops_no_other(
    site: Site,
    pebble: RunningPebble,
    host: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.certificate("mail", f"mail.{host}")
    clients, heard = tmp_path / "clients.pem", list[tuple[str, int]]()
    clients.write_text(pebble.ca_bundle.read_text())
    with Certd(site.path) as certd:
        for name in ("www", "mail"):
            certd.wait(name, SECONDS)
        good, other, broken = (certd.ssl_context(name) for name in ("www", "mail", "www"))
        broken.load_verify_locations(clients)
        certd.subscribe(lambda name, version: heard.append((name, version)))
        clients.unlink()
        certd.renew("www", "mail", force=True)
        until(lambda: shows(certd, good, host, "www", 2) and shows(certd, other, host, "mail", 2))
        until(lambda: heard == [("mail", 2)])
        assert not shows(certd, broken, host, "www", 2)
        time.sleep(1.2)  # two looks more
        assert caplog.text.count("www: version 2 cannot be served") == 1
        clients.write_text(pebble.ca_bundle.read_text())
        until(lambda: shows(certd, broken, host, "www", 2))
        until(lambda: heard == [("mail", 2), ("www", 2)])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def shows(certd: Certd, context: ssl.SSLContext, host: str, name: str, version: int) -> bool:
    """Whether this context shows this version, which is the current one."""
    entry = certd.status()[name]
    ours = ssl.create_default_context()
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = ours.wrap_bio(down, up, server_hostname=host)
    there = context.wrap_bio(up, down, server_side=True)
    for end in (here, there, here):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    shown = here.getpeercert(binary_form=True)
    assert shown
    return (hashlib.sha256(shown).hexdigest(), entry["version"]) == (entry["fingerprint"], version)


def test_wrong_uses_say_what_to_do(site: Site) -> None:
    with pytest.raises(BadConfig, match=r"^\[certificate.www\] names: missing"):
        Certd({"certd": {"state": site.state}, "certificate": {"www": {}}}).start()
    with pytest.raises(BadConfig, match="no type of a configuration"):
        Certd({"certd": {"state": object()}}).start()
    with pytest.raises(BadConfig, match="no configuration at"):
        Certd(site.folder / "absent.toml").start()
    with Certd(configuration.load(site.path)) as certd:
        with pytest.raises(ConfigError, match="no certificate is named wwww"):
            certd.ssl_context("wwww")
        with pytest.raises(ConfigError, match="a context needs a certificate"):
            certd.ssl_context()
        with pytest.raises(ConfigError, match="force needs names"):
            certd.renew(force=True)
        with pytest.raises(ConfigError, match="no certificate is named mail"):
            certd.wait("mail")
        with pytest.raises(ConfigError, match="state has changed"):
            certd.reload({"certd": {"state": site.folder / "elsewhere"}})
        with pytest.raises(BadConfig, match="unknown table"):
            certd.reload({"crtd": {}})
        assert certd.status().keys() == {"www"}


def test_a_state_folder_that_cannot_be_used_leaves_nothing_behind(site: Site) -> None:
    site.state.write_text("a file")
    certd = Certd(site.path)
    with pytest.raises(CertdError, match="state folder"):
        certd.start()
    site.state.unlink()
    with certd:
        assert certd.wait("www", SECONDS) == 1


# -- what it costs ------------------------------------------------------------------------------


def run(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("statement", ["import certd", "from certd import Certd; Certd('x')"])
def test_importing_it_loads_nothing_else_of_it(statement: str) -> None:
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    loaded = set(run(code).split())
    ours = {name for name in loaded if name.split(".")[0] == "certd"}
    assert ours <= {"certd", "certd.library"}
    heavy = {"pydantic", "sqlalchemy", "cryptography", "acme", "josepy", "asyncio", "dns", "click"}
    assert not {name.split(".")[0] for name in loaded} & heavy


def test_a_program_that_forgets_to_stop_it_ends_all_the_same(site: Site) -> None:
    code = "import sys; from certd import Certd; Certd(sys.argv[1]).start().wait('www', 60)"
    assert run(code, str(site.path)) == ""
    site.renew()
    assert site.status()["www"]["version"] == 1


def test_after_a_fork_it_says_that_it_does_not_run_there(site: Site) -> None:
    """And the child's end takes nothing from the parent."""
    code = """
import os, sys
from certd import Certd
certd = Certd(sys.argv[1]).start()
certd.wait("www", 60)
child = os.fork()
if child == 0:
    try:
        certd.start()
    except Exception as error:
        print(str(error).partition(":")[0], flush=True)
    certd.stop()
    os._exit(0)
os.waitpid(child, 0)
certd.renew("www", force=True)
print(certd.wait("www", 60, newer_than=1))
certd.stop()
"""
    assert run(code, str(site.path)) == "this Certd does not run here\n2\n"


def test_a_port_that_cannot_be_had_stops_the_certificate_and_not_the_program(
    site: Site, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = site.tables["http"]["listen"]
    site.tables["http"]["listen"] = ["192.0.2.7:8080"]
    site.write()
    with Certd(site.path) as certd:
        assert "challenges cannot be answered" in caplog.text
        deadline = time.monotonic() + SECONDS
        while not (failed := certd.status()["www"]["last_error"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "192.0.2.7" in f"{failed['what']} {failed['why']}"
    site.tables["http"]["listen"] = good
    site.write()
    with Certd(site.path) as certd:
        assert certd.wait("www", SECONDS) == 1


def test_a_program_answers_by_tls_only_while_a_challenge_is_open(
    pebble: RunningPebble, site: Site, host: str
) -> None:
    """And leaves port 80 alone."""
    site.certificate("www", host, challenge="tls-alpn-01")
    tables: dict[str, Any] = {
        "certd": {**site.tables["certd"], "state": site.state},
        "ca": {"test": site.tables["ca.test"]},
        "http": site.tables["http"],
        "tls_alpn": site.tables["tls_alpn"],
        "certificate": {"www": site.tables["certificate.www"]},
    }
    with Certd(tables) as certd:
        assert certd.wait("www", SECONDS) == 1
        deadline = time.monotonic() + SECONDS
        while not free(pebble.tls_port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert free(pebble.http_port)


def free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_a_step_that_outlives_the_stop_does_no_harm(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certd.engine.resident.STOP_SECONDS", 0.1)
    mark = site.folder / "reloading"
    site.disk(reload=["sh", "-c", f"touch {mark}; sleep 1"]).certificate(
        "www", *site.tables["certificate.www"]["names"], targets=["web"]
    )
    certd = Certd(site.path).start()
    deadline = time.monotonic() + SECONDS
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    certd.stop()
    while any(thread.name.startswith("engine") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "it goes on at the next start" in caplog.text
    assert "www: the store is closed: certd was stopped meanwhile" in caplog.text
    assert "bug" not in caplog.text
    site.renew("www")
    assert site.status()["www"]["targets"][0]["state"] == "verified"


def test_a_callback_may_stop_it(site: Site) -> None:
    """Also while the program does so."""
    certd = Certd(site.path)
    called, ended = threading.Event(), threading.Event()

    def stop(name: str, version: int) -> None:
        called.set()
        time.sleep(0.1)
        certd.stop()
        ended.set()

    certd.subscribe(stop)
    certd.start()
    assert called.wait(SECONDS)
    certd.stop()
    assert ended.wait(SECONDS)
    with pytest.raises(CertdError, match="does not run"):
        certd.status()
    assert [path.name for path in (site.state / "workers").iterdir()] == []


def test_many_threads_may_start_and_stop_it(site: Site, host: str) -> None:
    certd = Certd(site.path)
    with certd:  # before, for a stop while the CA looks is a failed validation, and a back-off
        assert certd.wait("www", SECONDS) == 1
    failed: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(3):
                certd.start()
                with contextlib.suppress(CertdError):  # somebody else has stopped it
                    certd.ssl_context("www")
                    certd.status()
                certd.stop()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with certd:
        assert certd.wait("www", SECONDS) == 1


def test_it_says_that_it_is_typed() -> None:
    import certd

    assert (Path(certd.__file__).parent / "py.typed").exists()
