"""The harness itself: what it starts is real, is its own, and is gone afterwards.

Certificates are asked for with the plain ``acme`` client, so that the harness is not judged
by the code that it is there to judge.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import acme.challenges
import acme.client
import acme.errors
import acme.messages
import josepy
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certd.testing import pebble_binary
from certd.testing.nginx import Nginx
from certd.testing.pebble import Pebble, RunningPebble
from certd.testing.processes import Child, ComponentError, NotInstalled, Ports
from certd.testing.tls import Minted, mint, probe, served
from certd.testing.tlsserver import TLSServer

Start = Callable[..., Pebble]


@pytest.fixture
def pair(tmp_path: Path) -> Minted:
    return mint(tmp_path, ["www.example.com"])


def _replace(pair: Minted, folder: Path, *, with_key: bool = True) -> None:
    folder.mkdir()
    new = mint(folder, ["www.example.com"])
    pair.fullchain.write_bytes(new.fullchain.read_bytes())
    if with_key:
        pair.key.write_bytes(new.key.read_bytes())


# Processes and ports


def test_ports_are_not_given_out_twice() -> None:
    with Ports() as one, Ports() as other:
        taken = [ports.take() for ports in (one, other) for _ in range(50)]
    assert len(set(taken)) == 100


def test_a_child_that_ends_while_starting_is_reported_with_its_words(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('no such configuration'); raise SystemExit(3)"]
    child = Child(argv, tmp_path / "log")
    with pytest.raises(ComponentError, match=r"ended with 3 .*\n?.*no such configuration"):
        child.wait_until(lambda: False)


def test_a_child_takes_its_own_children_with_it(tmp_path: Path) -> None:
    with Child(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path / "log") as child:
        child.wait_until(lambda: bool(child.output()))
        grandchild = int(child.output())
        assert _runs(grandchild)
    _until(lambda: not _runs(grandchild))


# Servers

SERVERS = [
    pytest.param(Nginx, id="nginx"),
    pytest.param(TLSServer, id="the standard library's"),
]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_takes_up_a_changed_pair(
    server: type[Nginx] | type[TLSServer], pair: Minted, tmp_path: Path
) -> None:
    with server(pair.fullchain, pair.key) as running:
        before = probe(running.port, "www.example.com", root=pair.root)
        assert before.names == ("www.example.com",)
        _replace(pair, tmp_path / "new")
        assert probe(running.port) == before
        subprocess.run(running.reload_argv, check=True, capture_output=True)
        _until(lambda: probe(running.port) != before)


@pytest.mark.parametrize("server", SERVERS)
def test_a_reload_with_a_wrong_pair_fails_and_the_old_one_stays(
    server: type[Nginx] | type[TLSServer], pair: Minted, tmp_path: Path
) -> None:
    with server(pair.fullchain, pair.key) as running:
        before = probe(running.port)
        _replace(pair, tmp_path / "new", with_key=False)
        done = subprocess.run(running.reload_argv, check=False, capture_output=True, text=True)
        assert done.returncode != 0
        assert "key values mismatch" in done.stderr.lower().replace("_", " ")
        assert probe(running.port) == before


# Pebble


def test_what_pebble_issues_is_in_its_ledger_and_its_window_moves(start_pebble: Start) -> None:
    own = start_pebble(nonce_reject=0, retry_after=(1, 1))
    assert own.ledger() == []
    leaf = _issue(own, "ledger.example.com")
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc >= datetime.timedelta(days=89)
    facts = served(leaf)
    assert [issued.serial for issued in own.ledger()] == [facts.serial]
    assert own.cert_status(facts.serial)["Status"] == "Valid"

    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    own.set_renewal_info(facts.pem, start, start + datetime.timedelta(days=1), "https://why.test/")
    window = json.loads(_renewal_info(own, leaf))
    assert window["suggestedWindow"]["start"].startswith("2020-01-01T00:00:00")
    assert window["explanationURL"] == "https://why.test/"
    own.set_renewal_info_raw(facts.pem, "<html>")
    assert _renewal_info(own, leaf) == "<html>"


def test_the_shared_pebble_answers_and_tells_its_root(pebble: RunningPebble) -> None:
    with _network(pebble) as network:
        assert acme.client.ClientV2.get_directory(pebble.directory, network).newOrder
    assert x509.load_pem_x509_certificate(pebble.root_pem().encode()).subject
    assert x509.load_pem_x509_certificate(pebble.intermediate_pem().encode()).subject


def test_settings_reach_pebble(start_pebble: Start) -> None:
    own = start_pebble(
        nonce_reject=0,
        alternate_roots=1,
        chain_length=2,
        profiles={"short": 60},
        retry_after=(1, 1),
        eab_keys={"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
    )
    with _network(own) as network:
        directory = acme.client.ClientV2.get_directory(own.directory, network)
    assert directory.meta.external_account_required
    assert list(directory.meta.profiles) == ["short"]
    assert own.root_pem(0) != own.root_pem(1)
    assert "reject 0%" in own.log.read_text()
    own.restart()
    assert own.ledger() == []


def test_names_resolve_as_the_test_says(start_pebble: Start) -> None:
    own = start_pebble(nonce_reject=0, retry_after=(1, 1))
    assert own.dns is not None
    own.dns.set_servfail("lost.example.com")
    with pytest.raises(acme.messages.Error, match="could not resolve"):
        _issue(own, "lost.example.com")
    assert own.dns.dns_history("lost.example.com")
    own.dns.clear_dns_history("lost.example.com")
    assert own.dns.dns_history("lost.example.com") == []
    own.dns.clear_servfail("lost.example.com")
    _issue(own, "lost.example.com")


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        pytest.param("Pebble version: v2.10.0 (e6a1b2c)", True, id="2.10 is after 2.7"),
        pytest.param("Pebble version: v2.7.0", True, id="2.7 will do"),
        pytest.param("Pebble version: v2.4.0", False, id="2.4 is too old for ARI"),
        pytest.param("Pebble version: dev", False, id="one that nobody knows the version of"),
    ],
)
def test_a_pebble_on_path_is_used_if_new_enough(
    version: str, accepted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pebble", "pebble-challtestsrv"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    # A file where the cache folder should be: nothing can be fetched.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "pebble"))
    monkeypatch.setenv("PATH", str(tmp_path))
    if accepted:
        assert pebble_binary.locate().pebble == tmp_path / "pebble"
    else:
        with pytest.raises(NotInstalled, match="CERTD_TEST_PEBBLE_DIRECTORY"):
            pebble_binary.locate()


# A plain client


def _issue(pebble: RunningPebble, name: str) -> x509.Certificate:
    with _network(pebble) as network:
        directory = acme.client.ClientV2.get_directory(pebble.directory, network)
        client = acme.client.ClientV2(directory, network)
        client.new_account(acme.messages.NewRegistration(terms_of_service_agreed=True))
        order = client.new_order(_csr(name))
        challenge = next(
            body
            for body in order.authorizations[0].body.challenges
            if isinstance(body.chall, acme.challenges.HTTP01)
        )
        response, validation = challenge.response_and_validation(network.key)
        with _responder(pebble.http_port, challenge.chall.path, validation):
            client.answer_challenge(challenge, response)
            deadline = datetime.datetime.now() + datetime.timedelta(seconds=20)  # noqa: DTZ005 - acme wants it naive
            try:
                done = client.poll_and_finalize(order, deadline)
            except acme.errors.ValidationError as error:
                failed = error.failed_authzrs[0].body.challenges[0].error
                assert failed is not None
                raise failed from error
    return x509.load_pem_x509_certificate(done.fullchain_pem.encode())


@contextlib.contextmanager
def _network(pebble: RunningPebble) -> Iterator[acme.client.ClientNetwork]:
    key = josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    network = acme.client.ClientNetwork(key, alg=josepy.ES256)
    network.verify_ssl = str(pebble.ca_bundle)  # type: ignore[assignment]  # requests takes a path
    with network.session:
        yield network


def _csr(name: str) -> bytes:
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def _responder(port: int, path: str, validation: str) -> Iterator[None]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == path else 404)
            self.end_headers()
            self.wfile.write(validation.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _renewal_info(pebble: RunningPebble, leaf: x509.Certificate) -> str:
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    serial = leaf.serial_number
    parts = (authority.key_identifier or b"", serial.to_bytes(serial.bit_length() // 8 + 1))
    name = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    with _network(pebble) as network:
        directory = acme.client.ClientV2.get_directory(pebble.directory, network)
        return network.get(f"{directory['renewalInfo']}/{name}", content_type="x").text


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False
    return state != "Z"  # dead, though nobody has asked for its exit status
