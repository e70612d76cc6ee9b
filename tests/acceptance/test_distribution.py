"""A hub: who gets what, and who gets nothing. Real processes, mutual TLS on the loopback."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
from functools import partial

import pytest

from certd.model import Identifier
from certd.testing.processes import Child
from certd.x509 import csr, new_key
from tests.machines import Hub, Machine, ask, within
from tests.site import Site


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
        within(20, lambda: machine.served("www") is not None)
        machine.want("mail")
        hub.allow("web1", "www", "mail")
        child.send(signal.SIGHUP)
        assert machine.site.certd("pull", "mail").returncode in (0, 1)  # perhaps before it
        within(
            20,
            lambda: (
                "fetched" in machine.site.certd("pull", "mail").stdout
                or bool(machine.served("mail"))
            ),
        )
        # Taken out again: what is in place stays, and the next version is not to be had.
        del hub.site.tables["client.web1"]
        hub.site.write()
        child.send(signal.SIGHUP)
        within(20, lambda: machine.site.status()["www"]["last_error"] is not None)
        failure = machine.site.status()["www"]["last_error"]
        assert failure["what"] == "hub does not know this machine"
        within(20, partial(logged, child, "web1.example.com gets nothing: there is no table"))
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


def test_another_address_is_told_of_until_a_restart(hub: Hub) -> None:
    words = "[distribution] listen has changed: restart certd"
    with hub.start() as child:
        before = hub.site.tables["distribution"]["listen"]
        for number, listen in enumerate((["127.0.0.1:1"], ["127.0.0.1:1"], before), 1):
            hub.site.tables["distribution"]["listen"] = listen
            hub.site.certificate(f"new{number}", "new.example.com")
            child.send(signal.SIGHUP)
            issued = f"new{number}: version 1 issued"  # after what the reload has to say
            within(10, partial(logged, child, issued))
            assert child.log.read_text().count(words) == min(number, 2)


def logged(child: Child, words: str) -> bool:
    return words in child.log.read_text()


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


def test_stalled_connections_hold_up_nobody(shared: tuple[Hub, Machine]) -> None:
    hub, machine = shared
    with contextlib.ExitStack() as stack:
        for _ in range(300):  # more than there may be strangers
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", hub.port), 5))
            plain.sendall(b"\x16\x03\x01")
        hub.site.renew("--force", "www")
        # That they make room before their time is over is shown where it can be made long:
        # with a hub in one process.
        assert "fetched" in machine.site.certd("pull").stdout
        assert machine.serves("www")
        # And they are hung up on.
        within(20, lambda: gone(plain))


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
