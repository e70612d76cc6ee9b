"""``key = ["ec-p256", "rsa-2048"]``: two certificates from one table, served side by side."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd import verify, x509
from certd.store import Store
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

NAME = "www.example.com"
MEMBERS = {"www": "ec-p256", "www.rsa": "rsa-2048"}


@pytest.fixture
def pair(site: Site) -> Site:
    return site.certificate("www", NAME, key=["ec-p256", "rsa-2048"], targets=["web"]).disk()


@contextlib.contextmanager
def served(folders: list[Path]) -> Iterator[int]:
    """The port of a TLS server that has what is in all of these folders now, as nginx can."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                for folder in folders:
                    context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
                with contextlib.suppress(OSError), connection:
                    connection.settimeout(5)
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def folders(site: Site) -> list[Path]:
    return [site.folder / "web" / name / "current" for name in MEMBERS]


def test_both_are_issued_deployed_and_found_at_one_server(pair: Site, faulty: FaultyCA) -> None:
    done = pair.renew()
    for name in MEMBERS:
        assert f"{name}: issued, version 1" in done.stdout
    assert len(faulty.acted_on("finalize")) == 2
    assert "not due before" in pair.renew().stdout
    with served(folders(pair)) as port:
        pair.disk(verify=[f"127.0.0.1:{port}"], verify_timeout=5)
        done = pair.renew("www", "--force")
        for name in MEMBERS:
            assert f"{name}: renewed, version 2" in done.stdout
        status = pair.status()
        for name, kind in MEMBERS.items():
            assert status[name]["targets"][0]["state"] == "verified"
            seen = verify.probe(verify.Way("127.0.0.1", port, NAME, 5.0, kind=kind))
            assert seen.fingerprint == status[name]["fingerprint"]


def test_a_server_that_has_only_one_of_them_is_found_out(pair: Site) -> None:
    pair.renew()
    with served(folders(pair)[:1]) as port:
        pair.disk(verify=[f"127.0.0.1:{port}"], verify_timeout=0.2)
        done = pair.certd("renew", "www", "--force")
        assert done.returncode == 1
        assert "www: renewed, version 2" in done.stdout
        assert "www.rsa: FAILED web: " in done.stdout
        assert "does not serve version 2" in done.stdout


def test_a_second_kind_orders_the_second_certificate_only(site: Site, faulty: FaultyCA) -> None:
    site.certificate("www", NAME).renew()
    site.certificate("www", NAME, key=["ec-p256", "rsa-2048"])
    assert "www.rsa: issued, version 1" in site.renew().stdout
    assert len(faulty.acted_on("finalize")) == 2
    site.certificate("www", NAME)  # and is left alone when it goes
    assert list(site.status()) == ["www"]


def test_one_waits_for_the_other_in_another_process(pair: Site, faulty: FaultyCA) -> None:
    """A CA has one order for both as long as it is open, and it is finalized once."""
    with Driver(pair) as driver, contextlib.closing(Store.open(pair.state)) as other:
        names = driver.spec("www.rsa").identifiers
        key = x509.new_key("rsa-2048")
        assert other.leases.claim(["www.rsa"]) == ["www.rsa"]
        other.orders.begin(
            *("www.rsa", "test", faulty.directory, names, "rsa-2048", key, x509.csr(key, names)),
            *(None, driver.now()),
        )
        assert driver.store.leases.claim(["www"]) == ["www"]
        assert driver.step("www") == 2
        assert not faulty.seen("new-order")
        other.leases.release("www.rsa", driver.now())
        driver.store.leases.release("www", None)
        assert driver.attempt("www").current is not None
        assert driver.attempt("www.rsa").current is not None
    assert len(faulty.acted_on("finalize")) == 2
