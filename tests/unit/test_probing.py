"""A probe tells what is served, or how far it got; the name it asks for is one that helps."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certd.errors import TargetError, Unseen
from certd.testing.chains import identifiers
from certd.testing.tls import mint, served
from certd.verify import Served, Way, addresses_of, probe, sni_for
from certd.x509 import read_chain
from tests.endpoints import PATIENCE, Answer, Tls, endpoint


def ask(
    port: int, sni: str | None = None, seconds: float = PATIENCE, address: str = "127.0.0.1"
) -> Served:
    return probe(Way(address, port, sni, seconds))


def test_a_probe_tells_what_is_served(tmp_path: Path) -> None:
    server = Tls(tmp_path)
    with endpoint(server) as port:
        seen = ask(port, "www.example.com")
    leaf = served(read_chain(server.minted.fullchain.read_bytes())[0])
    assert seen.fingerprint == leaf.fingerprint
    assert seen.certificate is not None
    assert seen.certificate.fingerprint == leaf.fingerprint
    assert seen.certificate.identifiers == identifiers("www.example.com")
    assert (seen.tls_version, seen.address) == ("TLSv1.3", "127.0.0.1")
    assert server.asked == ["www.example.com"]


def test_without_a_name_none_is_sent(tmp_path: Path) -> None:
    server = Tls(tmp_path)
    with endpoint(server) as port:
        assert ask(port).fingerprint
    assert server.asked == [None]


def test_all_that_was_sent_is_there_as_it_was_sent(tmp_path: Path) -> None:
    server = Tls(tmp_path)
    stranger = mint(tmp_path / "other").root.read_bytes()
    server.minted.fullchain.write_bytes(server.minted.fullchain.read_bytes() + stranger)
    server.context.load_cert_chain(server.minted.fullchain, server.minted.key)
    with endpoint(server) as port:
        sent = ask(port).sent
    there = read_chain(server.minted.fullchain.read_bytes())
    assert sent == tuple(one.public_bytes(Encoding.DER) for one in there)


def _drain(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def _hang_up(connection: socket.socket) -> None:
    connection.recv(1024)


def _reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _plain_http(connection: socket.socket) -> None:
    connection.recv(1024)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _greeting(connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")
    connection.recv(1024)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(_hang_up, "was closed during the TLS handshake", id="hangs up"),
        pytest.param(_reset, "was closed during the TLS handshake", id="resets"),
        pytest.param(_plain_http, "does not speak TLS", id="plain HTTP"),
        pytest.param(_greeting, "does not speak TLS", id="speaks first, as mail servers do"),
    ],
)
def test_what_is_no_certificate_is_explained(answer: Answer, why: str) -> None:
    with endpoint(answer) as port, pytest.raises(TargetError) as failed:
        ask(port)
    assert f"127.0.0.1:{port}" in failed.value.what
    assert why in failed.value.why
    assert failed.value.next


def test_a_server_that_does_not_know_the_name_is_explained(tmp_path: Path) -> None:
    server = Tls(tmp_path, only_known_names=True)
    with endpoint(server) as port, pytest.raises(TargetError, match=r"no server of the name b\.ex"):
        ask(port, "b.example")


def test_silence_ends_at_the_time_out() -> None:
    with endpoint(_drain) as port:
        began = time.monotonic()
        with pytest.raises(TargetError, match=r"no TLS handshake within 0\.2 s"):
            ask(port, seconds=0.2)
        assert time.monotonic() - began < 10


def test_a_handshake_in_drops_ends_at_the_same_time_out() -> None:
    def drip(connection: socket.socket) -> None:
        # A TLS record of 16 KiB, of which an octet comes in time, again and again.
        for octet in b"\x16\x03\x03\x40\x00" + bytes(1000):
            connection.sendall(bytes([octet]))
            time.sleep(0.02)

    with endpoint(drip) as port:
        began = time.monotonic()
        with pytest.raises(TargetError, match="no TLS handshake within"):
            ask(port, seconds=0.2)
        assert time.monotonic() - began < 10


def test_a_refused_connection_is_explained() -> None:
    with socket.socket() as bound:  # bound, not listening: nobody else can come to listen there
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(TargetError, match="refused; check that the server runs"):
            ask(bound.getsockname()[1])


def test_a_host_that_cannot_be_is_explained() -> None:
    with pytest.raises(Unseen, match="cannot be looked up"):
        addresses_of("a" * 64, 443, PATIENCE)


@pytest.mark.parametrize(
    ("host", "names", "expected"),
    [
        pytest.param("www.example.com", ["www.example.com"], "www.example.com", id="covered"),
        pytest.param("WWW.Example.com.", ["www.example.com"], "www.example.com", id="as spelt"),
        pytest.param("a.example.com", ["*.example.com"], "a.example.com", id="by a wildcard"),
        pytest.param("a.b.example.com", ["*.example.com"], "www.example.com", id="one label only"),
        pytest.param("example.com", ["*.example.com"], "www.example.com", id="not the apex"),
        pytest.param("node7", ["a.example", "b.example"], "a.example", id="an inner name"),
        pytest.param("127.0.0.1", ["a.example"], "a.example", id="an address"),
        pytest.param("192.0.2.1", ["192.0.2.1"], None, id="an address that is covered"),
        pytest.param("2001:DB8:0::1", ["a.example", "2001:db8::1"], None, id="also in IPv6"),
        pytest.param("node7", ["192.0.2.1"], None, id="a leaf without names"),
    ],
)
def test_the_name_asked_for_is_one_of_the_leaf(
    host: str, names: list[str], expected: str | None
) -> None:
    assert sni_for(host, identifiers(*names)) == expected
