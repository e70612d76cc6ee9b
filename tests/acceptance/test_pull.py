"""One certd distributes, others pull: real processes, two folders, mutual TLS on the loopback."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from certd import Certd
from certd.model import Identifier
from certd.testing.processes import Ports
from certd.x509 import csr, fingerprint, new_key
from tests.machines import Hub, Machine
from tests.site import Site


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Ports() as ports:
        yield Hub(tmp_path, ports)
    for log in tmp_path.rglob("certd.log"):
        assert "Traceback" not in log.read_text()


@pytest.fixture
def machine(hub: Hub) -> Machine:
    return hub.machine("web1", "www")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Machine]]:
    """A hub that runs, for tests that change nothing in its configuration."""
    with Ports() as ports:
        hub = Hub(tmp_path_factory.mktemp("shared"), ports)
        with hub.start():
            yield hub, hub.machine("web1", "www")


@contextlib.contextmanager
def ask(hub: Hub, machine: Machine) -> Iterator[ssl.SSLSocket]:
    """A connection of the machine's to the hub."""
    context = ssl.create_default_context(cafile=hub.root)
    context.load_cert_chain(machine.client / "fullchain.pem", machine.client / "privkey.pem")
    with (
        socket.create_connection(("127.0.0.1", hub.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


def within(seconds: float, happened: Callable[[], bool]) -> float:
    """Seconds until it has happened."""
    begun = time.monotonic()
    while not happened():
        assert time.monotonic() - begun < seconds
        time.sleep(0.02)
    return time.monotonic() - begun


def test_once_by_hand(hub: Hub, machine: Machine) -> None:
    with hub.start():
        done = machine.site.certd("pull")
        assert (done.returncode, done.stderr) == (0, "")
        assert "www: fetched from hub, version 1, valid until " in done.stdout
        assert machine.serves("www")
        assert "www: hub has nothing newer; valid until" in machine.site.certd("pull").stdout
        hub.site.renew("--force", "www")
        assert "fetched from hub, version 2" in machine.site.certd("pull", "www").stdout
        assert machine.serves("www")
        entry = machine.site.status()["www"]
        assert (entry["state"], entry["ca"], entry["version"]) == ("ok", "hub", 2)


def test_a_new_version_is_there_within_seconds(hub: Hub, machine: Machine) -> None:
    with hub.start(), machine.site.start("run") as child:
        child.wait_until(lambda: machine.serves("www"))
        for _ in range(3):
            hub.site.renew("--force", "www")
            lasted = within(5, lambda: machine.serves("www"))
            print(f"there after {lasted:.2f} s")
        assert machine.site.status()["www"]["version"] == 4


# -- who gets what --------------------------------------------------------------------------


def test_only_what_the_table_of_the_client_lists(hub: Hub, machine: Machine) -> None:
    machine.want("mail")  # which the other machine may have
    machine.want("web1")  # and a key of the hub's that nobody may
    with hub.start():
        done = machine.site.certd("pull")
        assert done.returncode == 1
        assert "www: fetched from hub" in done.stdout
        for name in ("mail", "web1"):
            assert f"{name}: FAILED hub does not give {name} to this machine" in done.stdout
            assert machine.served(name) is None
        other = hub.machine("web2", "mail", "www")
        done = other.site.certd("pull")
        assert "mail: fetched from hub" in done.stdout
        assert "www: FAILED" in done.stdout
        # What there is not is answered like what it may not have.
        other.want("nothing")
        lines = other.site.certd("pull").stdout.replace("nothing", "www").splitlines()
        assert len({line for line in lines if "FAILED" in line}) == 1


def test_what_a_client_may_have_follows_the_configuration(hub: Hub, machine: Machine) -> None:
    with hub.start() as child, machine.site.start("run"):
        within(5, lambda: machine.served("www") is not None)
        machine.want("mail")
        hub.allow("web1", "www", "mail")
        child.send(signal.SIGHUP)
        assert machine.site.certd("pull", "mail").returncode in (0, 1)  # perhaps before it
        within(
            5,
            lambda: (
                "fetched" in machine.site.certd("pull", "mail").stdout
                or bool(machine.served("mail"))
            ),
        )
        # Taken out again: what is in place stays, and the next version is not to be had.
        del hub.site.tables["client.web1"]
        hub.site.write()
        child.send(signal.SIGHUP)
        within(10, lambda: machine.site.status()["www"]["last_error"] is not None)
        failure = machine.site.status()["www"]["last_error"]
        assert failure["what"] == "hub does not know this machine"
        before = machine.served("www")
        hub.site.renew("--force", "www")
        assert "hub does not know this machine" in machine.site.certd("pull", "www").stdout
        assert machine.served("www") == before != hub.fingerprint("www")
        assert machine.site.status()["www"]["state"] == "failing"
        # And back.
        hub.allow("web1", "www", "mail")
        child.send(signal.SIGHUP)
        within(90, lambda: machine.serves("www"))
        assert machine.site.status()["www"]["state"] == "ok"


def test_a_client_certificate_of_another_ca_is_refused(hub: Hub, machine: Machine) -> None:
    stranger = Site(machine.folder / "stranger", None).disk("out")
    stranger.certificate("web1", "web1.example.com", usage=["client"], targets=["out"])
    assert stranger.certd("ca", "init").returncode == 0
    stranger.renew()
    shutil.copytree(stranger.folder / "out/web1/current", machine.client, dirs_exist_ok=True)
    with hub.start():
        done = machine.site.certd("pull")
    assert done.returncode == 1
    assert "hub does not take this machine's client certificate" in done.stdout
    assert "it was issued by a CA that the hub does not know" in done.stdout
    assert machine.served("www") is None


def test_other_roots_hold_from_the_next_reload_on(hub: Hub, machine: Machine) -> None:
    """Also for connections that were let in by those of before."""
    stranger = Site(machine.folder / "stranger", None).disk("out")
    stranger.certificate("web1", "web1.example.com", usage=["client"], targets=["out"])
    assert stranger.certd("ca", "init").returncode == 0
    stranger.renew()
    roots = hub.site.folder / "clients.pem"
    roots.write_text(stranger.certd("ca", "root").stdout)
    with hub.start() as child, ask(hub, machine) as tls:
        tls.sendall(b"GET /v1/certificates HTTP/1.1\r\n\r\n")
        assert tls.recv(65536).startswith(b"HTTP/1.1 200")
        hub.site.tables["distribution"] |= {"roots": str(roots)}
        del hub.site.tables["distribution"]["clients"]
        hub.site.write()
        child.send(signal.SIGHUP)
        with contextlib.suppress(OSError):
            assert tls.recv(1) == b""
        assert "that the hub does not know" in machine.site.certd("pull").stdout
        shutil.copytree(stranger.folder / "out/web1/current", machine.client, dirs_exist_ok=True)
        assert "www: fetched from hub" in machine.site.certd("pull").stdout


def test_a_certificate_whose_key_the_hub_never_had(hub: Hub, machine: Machine) -> None:
    request = csr(new_key("ec-p256"), (Identifier("dns", "own.example.com"),), ("server",))
    for site in (hub.site, machine.site):
        (site.folder / "own.csr").write_text(request)
    hub.site.certificate("own", "own.example.com", csr="own.csr")
    hub.allow("web1", "www", "own")
    hub.site.renew()
    machine.want("own")
    with hub.start():
        assert "own: FAILED hub has no key of own" in machine.site.certd("pull").stdout
        machine.want("own", csr="own.csr")
        assert "own: fetched from hub" in machine.site.certd("pull").stdout
    assert machine.serves("own")
    assert (machine.folder / "web/own/current/no-privkey.txt").exists()


def test_a_server_certificate_of_the_same_ca_is_no_client_certificate(
    hub: Hub, machine: Machine
) -> None:
    hub.site.certificate("web1", "web1.example.com", targets=["out"])
    hub.site.renew()
    shutil.copytree(hub.site.folder / "out/web1/current", machine.client, dirs_exist_ok=True)
    with hub.start():
        assert "it is not for clients" in machine.site.certd("pull").stdout


def test_without_a_certificate_nothing_is_answered(hub: Hub) -> None:
    context = ssl.create_default_context(cafile=hub.root)
    with hub.start(), socket.create_connection(("127.0.0.1", hub.port), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
            tls.sendall(b"GET /v1/certificates HTTP/1.1\r\nHost: hub\r\n\r\n")
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                tls.recv(1)
        old = ssl.create_default_context(cafile=hub.root)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", hub.port), timeout=5) as second,
            pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
        ):
            old.wrap_socket(second, server_hostname="127.0.0.1")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /v1/certificates/www HTTP/1.1", 200),
        ("GET /v1/certificates/www?since=x&wait=1 HTTP/1.1", 200),
        ("GET /v1/certificates?since=x HTTP/1.1", 200),
        ("GET /v1/certificates/mail HTTP/1.1", 404),
        ("GET /v1/certificates/none HTTP/1.1", 404),
        ("GET /v1/certificates/../www HTTP/1.1", 404),
        ("GET /v1/certificates/www/ HTTP/1.1", 404),
        ("GET /v1/certificates/www?wait=-1 HTTP/1.1", 404),
        ("GET /v1/certificates/www?all=1 HTTP/1.1", 404),
        ("GET / HTTP/1.1", 404),
        ("POST /v1/certificates/www HTTP/1.1", 404),
        ("GET /v1/certificates/www HTTP/1.1\r\nContent-Length: 1", 404),
        ("GET /v1/certificates/www HTTP/1.1\r\nX: " + "x" * 9000, 404),
        ("GET /v1/certificates/www HTTP/0.9", 404),
    ],
)
def test_what_is_answered(shared: tuple[Hub, Machine], request_line: str, status: int) -> None:
    hub, machine = shared
    with ask(hub, machine) as tls:
        tls.sendall(f"{request_line}\r\n\r\n".encode())
        answer = tls.recv(65536).decode()
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert ("PRIVATE KEY" in answer) == (status == 200 and "/www" in request_line)
        assert status == 200 or answer.endswith("\r\n\r\n")  # without a word


# -- what goes wrong ------------------------------------------------------------------------


def test_the_hub_must_be_who_it_is_taken_for(hub: Hub, machine: Machine) -> None:
    stranger = Site(machine.folder / "stranger", None)
    stranger.certd("ca", "init")
    (machine.folder / "other.pem").write_text(stranger.certd("ca", "root").stdout)
    table = machine.site.tables["ca.hub"]
    with hub.start():
        table["ca_bundle"] = "other.pem"
        machine.site.write()
        assert "hub is not the hub that is expected" in machine.site.certd("pull").stdout
        table["ca_bundle"] = str(hub.root)
        table["server"] = hub.url.replace("127.0.0.1", "localhost")
        machine.site.write()
        done = machine.site.certd("pull").stdout
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in done
        del table["ca_bundle"]  # this machine's roots: another CA than the hub's
        table["server"] = hub.url
        machine.site.write()
        assert "hub is not the hub that is expected" in machine.site.certd("pull").stdout
    assert machine.served("www") is None


def test_other_names_than_wanted_are_refused(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
        before = machine.served("www")
        machine.want("www", names=["www.example.com", "example.com"])
        done = machine.site.certd("pull")
        assert "is refused: it lacks example.com" in done.stdout
        assert machine.served("www") == before
        assert machine.site.status()["www"]["state"] == "failing"
        # Which is mended where it is ordered.
        hub.site.certificate("www", "www.example.com", "example.com")
        hub.site.renew()
        assert "fetched from hub, version 2" in machine.site.certd("pull").stdout


def test_killed_between_fetch_and_deployment(hub: Hub, machine: Machine) -> None:
    with hub.start():
        for place in ("pulling: the hub has answered", "pulling: version is current"):
            done = machine.site.certd("pull", CERTD_KILL_AT=place)
            assert done.returncode == -signal.SIGKILL
            assert machine.served("www") is None
    # What was taken in is deployed, whether the hub is there or not.
    done = machine.site.certd("renew")
    assert machine.serves("www"), done.stdout


@pytest.mark.fault(row=41)
def test_killed_at_every_failpoint_it_has_one_version_and_it_is_in_place(
    shared: tuple[Hub, Machine],
) -> None:
    _, machine = shared
    places = []
    for number in range(1, 40):
        for left in (machine.site.state, machine.folder / "web"):
            shutil.rmtree(left, ignore_errors=True)
        done = machine.site.certd("pull", CERTD_KILL_AT=str(number))
        if done.returncode == 0:
            break
        places.append(done.stderr.partition(": ")[2].strip())
        done = machine.site.certd("pull")
        assert done.returncode == 0, (places[-1], done.stdout)
        assert machine.serves("www"), places[-1]
        bundle = machine.site.bundle("www")
        assert bundle is not None
        assert bundle.version == 1, places[-1]
    assert {"pulling: version is current", "rollout: deployed"} <= set(places)
    assert len(places) < 38


def test_a_hub_that_restarts(hub: Hub, machine: Machine) -> None:
    with machine.site.start("run"):
        with hub.start():
            within(30, lambda: machine.served("www") is not None)
        hub.site.renew("--force", "www")
        with hub.start():
            within(20, lambda: machine.serves("www"))
        assert machine.site.status()["www"]["state"] == "ok"


def test_a_hub_that_is_away(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
    before = machine.served("www")
    with machine.site.start("run"):
        within(30, lambda: machine.site.status()["www"]["last_error"] is not None)
        entry = machine.site.status()["www"]
        assert entry["last_error"]["what"] == "hub cannot be asked"
        assert "refused" in entry["last_error"]["why"]
        assert (entry["state"], entry["failures"]) == ("ok", 1)  # it is served still
        assert entry["next_attempt"]
        assert machine.served("www") == before
        assert "next attempt" in machine.site.certd("status").stdout
        for _ in range(2):
            assert machine.site.certd("pull").returncode == 1
        assert machine.site.status()["www"]["state"] == "failing"  # by now it is more than a pause
        with hub.start():
            within(90, lambda: machine.site.status()["www"]["state"] == "ok")
            assert machine.site.status()["www"]["failures"] == 0


def test_stalled_connections_hold_up_nobody(shared: tuple[Hub, Machine]) -> None:
    hub, machine = shared
    with contextlib.ExitStack() as stack:
        for _ in range(300):  # more than there may be strangers
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", hub.port), 5))
            plain.sendall(b"\x16\x03\x01")
        begun = time.monotonic()
        hub.site.renew("--force", "www")
        assert "fetched" in machine.site.certd("pull").stdout
        assert machine.serves("www")
        assert time.monotonic() - begun < 5
        # And they are hung up on.
        within(10, lambda: gone(plain))


def gone(plain: socket.socket) -> bool:
    plain.setblocking(False)
    try:
        return plain.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_one_client_has_so_many_connections_and_no_more(shared: tuple[Hub, Machine]) -> None:
    hub, machine = shared
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(ask(hub, machine)) for _ in range(70)]
        for tls in several:
            with contextlib.suppress(OSError):
                tls.sendall(b"GET /v1/certificates/www HTTP/1.1\r\n\r\n")
        answers = [answered(tls) for tls in several]
        assert answers[-1]
        assert answers.count(True) <= 64


def answered(tls: ssl.SSLSocket) -> bool:
    try:
        return tls.recv(12) == b"HTTP/1.1 200"
    except OSError:
        return False


# -- the machine's own ------------------------------------------------------------------------


def test_a_machine_pulls_its_own_client_certificate_too(hub: Hub, machine: Machine) -> None:
    """As docs/operations.md has it: the folder of the hub's target becomes one of its own."""
    shutil.rmtree(machine.client)
    source, there = hub.site.folder / "out" / "web1", machine.folder / "own" / "web1"
    shutil.copytree(source, there, symlinks=True)
    machine.site.disk("own", path=str(machine.folder / "own" / "{name}"))
    table = machine.site.tables["ca.hub"]
    table["certificate"] = "own/web1/current/fullchain.pem"
    table["key"] = "own/web1/current/privkey.pem"
    machine.site.certificate(
        "web1", "web1.example.com", ca=["hub"], usage=["client"], targets=["own"]
    )
    hub.allow("web1", "www", "web1")

    def renewed() -> bool:
        served = fingerprint((there / "current/fullchain.pem").read_text())
        return served == hub.fingerprint("web1")

    with hub.start(), machine.site.start("run"):
        within(10, partial(machine.serves, "www"))
        for _ in range(2):
            hub.site.renew("--force", "web1")
            within(10, renewed)
            hub.site.renew("--force", "www")
            within(10, partial(machine.serves, "www"))
        assert {one["state"] for one in machine.site.status().values()} == {"ok"}


def test_the_database_is_lost_and_the_hub_is_away(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
    shutil.rmtree(machine.site.state)
    done = machine.site.certd("pull")
    assert "hub cannot be asked" in done.stdout
    assert machine.site.status()["www"]["version"] == 1
    assert machine.serves("www")


def test_a_program_follows_its_hub_too(hub: Hub, machine: Machine) -> None:
    with hub.start(), Certd(machine.site.path) as certd:
        certd.wait("www", timeout=30)
        hub.site.renew("--force", "www")
        within(5, partial(machine.serves, "www"))


def test_many_certificates_at_once(hub: Hub, machine: Machine) -> None:
    """Each of the threads that fetch has a connection, and the one that waits keeps its own."""
    names = [f"n{number}" for number in range(30)]
    for name in names:
        hub.site.certificate(name, f"{name}.example.com")
        machine.want(name)
    hub.allow("web1", "www", *names)
    hub.site.renew()
    with hub.start(), machine.site.start("run"):
        within(20, lambda: all(map(machine.served, names)))
        hub.site.renew("--force", *names)
        within(20, lambda: all(map(machine.serves, names)))
        assert {one["state"] for one in machine.site.status().values()} == {"ok"}


def test_no_key_is_logged(hub: Hub, machine: Machine) -> None:
    with hub.start() as child, machine.site.start("run", "--debug") as puller:
        within(30, lambda: machine.served("www") is not None)
        text = child.log.read_text() + puller.log.read_text()
        text += machine.site.certd("pull", "--debug").stderr
    assert "version 1 is given to web1" in text
    bundle = hub.site.bundle("www")
    assert bundle is not None
    for line in bundle.key_pem.reveal().splitlines()[1:3]:
        assert line not in text


def test_what_belongs_to_the_hub_is_refused_here(hub: Hub, machine: Machine) -> None:
    with hub.start():
        machine.site.renew()
        assert (
            "`certd renew --force www` there"
            in machine.site.certd("renew", "--force", "www").stderr
        )
        assert "`certd revoke www` there" in machine.site.certd("revoke", "www", "--yes").stderr
        assert "nothing to rehearse" in machine.site.certd("renew", "--dry-run").stdout
        assert "www: ask for it " in machine.site.certd("plan", "--all").stdout
        assert "does not come from another certd" in hub.site.certd("pull", "www").stderr
        assert "there is nothing to pull" in hub.site.certd("pull").stderr
