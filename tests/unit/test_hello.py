"""What a client asks for by TLS-ALPN-01, read from the bytes that a TLS library sends."""

from __future__ import annotations

import random
import ssl

import pytest

from certd.challenges.hello import (
    MAX_HELLO,
    PROTOCOL,
    Hello,
    NoHello,
    alert,
    identifier,
    read_hello,
    server_name,
)
from certd.model import Identifier


def hello(name: str | None = "www.example.com", *protocols: str) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of this size (RFC 8446 section 5.1)."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize(
    ("name", "protocols", "validates"),
    [
        pytest.param("www.example.com", [PROTOCOL], True, id="a CA's"),
        pytest.param("www.example.com", [], False, id="no protocol"),
        pytest.param("www.example.com", ["h2", "http/1.1"], False, id="a browser's"),
        pytest.param("www.example.com", ["h2", PROTOCOL], False, id="another protocol too"),
        pytest.param("www.example.com", ["acme-tls/2"], False, id="another version"),
        pytest.param(None, [PROTOCOL], True, id="no name"),
        pytest.param("WWW.Example.COM", [PROTOCOL], True, id="upper case"),
    ],
)
def test_what_is_asked_for(name: str | None, protocols: list[str], validates: bool) -> None:
    found = read_hello(hello(name, *protocols))
    asked = (name or "").lower()
    assert found == Hello(asked, tuple(protocol.encode() for protocol in protocols))
    assert found.validates is validates


@pytest.mark.parametrize("size", [1, 4, 100, 511])
def test_it_may_come_in_pieces_of_any_size(size: int) -> None:
    whole = hello("www.example.com", PROTOCOL)
    found = read_hello(whole)
    assert all(read_hello(whole[:count]) is None for count in range(len(whole)))
    assert read_hello(in_records(whole, size)) == found
    assert read_hello(in_records(whole, size)[:-1]) is None


WHOLE = hello("www.example.com", PROTOCOL)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(b"\x80\x2e\x01\x03\x01", id="SSL 2"),
        pytest.param(b"\x16\x02\x00\x00\x01\x01", id="another version"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="an empty record"),
        pytest.param(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", id="a ServerHello"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="an alert"),
        pytest.param(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", id="nothing in it"),
        pytest.param(WHOLE.replace(b"www.example.com", b"ww\xff.example.com"), id="not ASCII"),
        pytest.param(
            b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(MAX_HELLO), id="16 MB announced"
        ),
        pytest.param(b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\xff" * 3000, id="crumbs"),
    ],
)
def test_what_is_no_hello(data: bytes) -> None:
    with pytest.raises(NoHello):
        read_hello(data)


def test_a_damaged_hello_is_read_or_refused_and_nothing_else() -> None:
    dice = random.Random(8737)
    for _ in range(5_000):
        data = bytearray(WHOLE)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            found = read_hello(bytes(data))
        except NoHello:
            continue
        assert found is None or isinstance(found.server_name, str)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (Identifier("dns", "www.example.com"), "www.example.com"),
        (Identifier("ip", "192.0.2.1"), "1.2.0.192.in-addr.arpa"),
        (
            Identifier("ip", "2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        ),
    ],
)
def test_a_ca_asks_for_an_address_by_its_reverse_name(host: Identifier, name: str) -> None:
    assert server_name(host) == name
    assert identifier(name) == host


@pytest.mark.parametrize(
    "name",
    ["", "1.in-addr.arpa", "1.2.3.400.in-addr.arpa", "x.ip6.arpa", "1.0.ip6.arpa", ".ip6.arpa"],
)
def test_an_odd_name_is_nobodys_address(name: str) -> None:
    assert identifier(name) in (None, Identifier("dns", ""))


def test_an_alert_is_understood_by_a_client() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent, server_hostname="www.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    received.write(alert(120))
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        tls.do_handshake()
