"""A server that wants to hold, fill or fool its client: bounded, and told in words."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest

from certd.ca.net import Network
from certd.ca.problem import NoJSON
from certd.ca.reading import WireError
from certd.ca.wire import HEAD_CAP, REPLY_CAP
from certd.testing.tls import Minted, mint
from tests.integration.answering import OK, saying, server, wire

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = 64 << 20  # bytes: nobody reads as far


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Minted:
    return mint(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("begin", "again", "words"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", "headers .* longer", id="continue"),
        pytest.param(b"", b"HTTP/1.1 103 E\r\nA: b\r\n\r\n", "headers .* longer", id="hints"),
        pytest.param(OK, b"A: b\r\n", "headers .* longer", id="headers"),
        pytest.param(OK + b"A: ", b"x" * 4096, "headers .* longer", id="one header"),
        pytest.param(OK, b"x" * 4096, "not HTTP|headers .* longer", id="a header's name"),
        pytest.param(b"HTTP/1.1 200 ", b"x" * 4096, "headers .* longer", id="a reason"),
        pytest.param(OK + b"\r\n", b"x" * 4096, "answer is longer", id="a body"),
        pytest.param(CHUNKED, b"1\r\nx\r\n" * 512, "answer is longer", id="chunks"),
        pytest.param(CHUNKED + b"1;", b"x" * 4096, "answer is longer", id="a chunk's extension"),
        pytest.param(CHUNKED + b"0\r\n", b"A: b\r\n" * 512, "answer is longer", id="trailers"),
        pytest.param(CHUNKED + b"0\r\nA: ", b"x" * 4096, "answer is longer", id="a trailer"),
        pytest.param(CHUNKED, b"0" * 4096, "not HTTP|longer", id="noughts of a chunk's size"),
        pytest.param(b"", b"\r\n" * 2048, "headers|not HTTP", id="empty lines"),
        pytest.param(b"", b"\0" * 4096, "not HTTP", id="NULs"),
    ],
)
def test_what_has_no_end_is_given_up(
    begin: bytes, again: bytes, words: str, minted: Minted
) -> None:
    def pieces() -> Iterator[bytes]:
        yield begin
        for _ in range(ENDLESS // len(again)):
            yield again

    begun = time.monotonic()
    with saying(minted, pieces) as (url, _), pytest.raises(WireError, match=words):
        wire(minted).exchange("GET", url, None, {})
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="continue"),
        pytest.param(OK, b"A: b\r\n", id="headers"),
        pytest.param(OK + b"\r\n", b"x", id="a body"),
        pytest.param(OK + b"Content-Length: 99999\r\n\r\n", b"x", id="a body of a length"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks"),
        pytest.param(CHUNKED + b"0\r\n", b"A: b\r\n", id="trailers"),
    ],
)
def test_drips_have_one_deadline(begin: bytes, again: bytes, minted: Minted) -> None:
    def pieces() -> Iterator[bytes]:
        yield begin
        for _ in range(2000):
            yield again
            time.sleep(0.02)

    begun = time.monotonic()
    with saying(minted, pieces) as (url, _), pytest.raises(WireError, match="in time"):
        wire(minted, silence=0.3, deadline=0.4).exchange("GET", url, None, {})
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(OK + b"Content-Length: 99999999999999999999\r\n\r\n", "not HTTP", id="2^66"),
        pytest.param(OK + b"Content-Length: 9999999999\r\n\r\nx", "middle", id="10 GB, and one"),
        pytest.param(OK + b"Content-Length: 0x2\r\n\r\n{}", "not HTTP", id="hexadecimal"),
        pytest.param(OK + b"Content-Length: 2, 2\r\n\r\n{}", "not HTTP", id="a list"),
        pytest.param(OK + b"Content-Length: \xb2\r\n\r\n{}", "not HTTP", id="a superscript"),
        pytest.param(OK + b"Content-Length: +2\r\n\r\n{}", "not HTTP", id="plus"),
        pytest.param(OK + b"Content-Length:\r\n\r\n{}", "not HTTP", id="no length"),
        pytest.param(CHUNKED + b"ffffffffffffffffff\r\nx", "not HTTP", id="2^72 bytes"),
        pytest.param(CHUNKED + b"7fffffffffffffff\r\nx", "middle", id="2^63 bytes, and one"),
        pytest.param(CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", "not HTTP", id="a chunk below nothing"),
        pytest.param(CHUNKED + b"1\r\nxx\r\n0\r\n\r\n", "not HTTP", id="longer than its size"),
        pytest.param(CHUNKED + b"1\r\nx\r\n", "middle", id="no last chunk"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n", "middle", id="no last line"),
        pytest.param(OK + b"A: b\0c\r\n\r\n", "not HTTP", id="NUL in a header"),
        pytest.param(OK + b"A : b\r\n\r\n", "not HTTP", id="a space before the colon"),
        pytest.param(OK + b" folded\r\n\r\n", "not HTTP", id="a folded line first"),
        pytest.param(b"HTTP/9.9 200 OK\r\n\r\n", "not HTTP", id="HTTP/9.9"),
        pytest.param(b"HTTP/1.1 0 No\r\n\r\n", "not HTTP", id="a status of one digit"),
        pytest.param(b"HTTP/1.1 20000 OK\r\n\r\n", "not HTTP", id="a status of five digits"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "not HTTP", id="a request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", "not HTTP", id="TLS in TLS"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", "middle|without", id="nothing after it"),
    ],
)
def test_what_is_no_answer_is_told(answer: bytes, words: str, minted: Minted) -> None:
    with saying(minted, lambda: iter([answer])) as (url, _):
        with pytest.raises(WireError, match=words) as refused:
            wire(minted).exchange("GET", url, None, {})
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="before it"),
        pytest.param(OK, id="in the headers"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\n{}", id="in a body of a length"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n", id="between chunks"),
        pytest.param(OK + b"\r\n{}", id="in a body that ends where the connection does"),
    ],
)
def test_an_end_without_an_alert_is_none(answer: bytes, minted: Minted) -> None:
    """Anybody on the way can end a connection; only the server can say that it has."""
    with (
        saying(minted, lambda: iter([answer]), says_so=False) as (url, _),
        pytest.raises(WireError, match=r"hung up|without an answer"),
    ):
        wire(minted).exchange("GET", url, None, {})


def test_trailers_are_no_headers(minted: Minted) -> None:
    answer = CHUNKED + b"2\r\n{}\r\n0\r\nLocation: https://x\r\nReplay-Nonce: abc-\r\n\r\n"
    with server(minted, answer, 1 << 12) as (url, _):
        client = wire(minted)
        assert client.exchange("GET", url, None, {}).headers == {"transfer-encoding": "chunked"}
        client.close()


def test_nothing_is_unpacked(minted: Minted) -> None:
    bomb = gzip.compress(b"{" + b" " * 10 * REPLY_CAP + b"}")
    assert len(bomb) < HEAD_CAP
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with server(minted, head + bomb, 1 << 12) as (url, asked):
        network = Network(minted.root)
        network.trust(url)
        with pytest.raises(NoJSON, match="did not answer with JSON") as refused:
            network.get(url).json()
        assert str(refused.value).isprintable()
        network.close()
    assert b"Accept-Encoding" not in asked[0]


def test_headers_within_the_cap_are_read(minted: Minted) -> None:
    many = b"".join(b"A%d: b\r\n" % number for number in range(5000))
    assert len(many) < HEAD_CAP
    with server(minted, OK + many + b"Content-Length: 0\r\n\r\n", 1 << 12) as (url, _):
        client = wire(minted)
        assert len(client.exchange("GET", url, None, {}).headers) == 5001
        client.close()
