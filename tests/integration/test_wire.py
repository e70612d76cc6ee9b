"""What a server may answer, byte by byte: whole answers, and what is none."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from certd.ca.reading import Answer, WireError
from certd.ca.wire import FRESH, HEAD_CAP, REPLY_CAP, Wire
from certd.testing.tls import Minted, mint
from tests.integration.answering import OK, server, wire


@pytest.fixture(scope="module")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Minted:
    return mint(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    "piece", [pytest.param(1 << 20, id="at once"), pytest.param(1, id="bytes")]
)
@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", id="a length"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", 200, b"", id="an empty body"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="no body"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nA: b\r\n\r\n",
            200,
            b"{}",
            id="chunks and a trailer",
        ),
        pytest.param(OK + b"\r\n{}", 200, b"{}", id="until it hangs up"),
        pytest.param(b"HTTP/1.0 404 No\r\n\r\nno", 404, b"no", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
            200,
            b"{}",
            id="hints first",
        ),
    ],
)
def test_a_whole_answer(
    answer: bytes, status: int, body: bytes, piece: int, minted: Minted
) -> None:
    with server(minted, answer, piece) as (url, _):
        client = wire(minted)
        for _ in range(3):
            found = client.exchange("GET", url, None, {})
            assert (found.status, found.body) == (status, body)
            assert "link" not in found.headers
        client.close()


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 2", 0.0, id="with the answer"),
        pytest.param(OK + b"Content-Length: 2\r\n\r\n{}" + b"x", 2 * FRESH, id="after it"),
    ],
)
def test_more_than_was_asked_for_is_not_the_next_answer(
    answer: bytes, pause: float, minted: Minted
) -> None:
    piece = len(answer) if not pause else len(answer) - 1
    with server(minted, answer, piece) as (url, _):
        client = wire(minted)
        for _ in range(3):
            assert client.exchange("GET", url, None, {}).body == b"{}"
            time.sleep(pause)
        client.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(b"", "without an answer", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "not HTTP", id="another protocol"),
        pytest.param(OK + b"A: b\r\n", "in the middle", id="half of the headers"),
        pytest.param(OK + b"A b\r\n\r\n", "not HTTP", id="a header that is none"),
        pytest.param(OK + b"A\0: b\r\n\r\n", "not HTTP", id="a NUL"),
        pytest.param(
            OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "not HTTP", id="both"
        ),
        pytest.param(
            OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "not HTTP", id="two lengths"
        ),
        pytest.param(OK + b"Content-Length: -1\r\n\r\n", "not HTTP", id="less than nothing"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "not HTTP", id="odd chunk"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nx",
            "not HTTP",
            id="an upgrade",
        ),
        pytest.param(
            OK + b"A: b\r\n" * (HEAD_CAP // 3) + b"\r\n" * 2, "headers .* longer", id="headers"
        ),
        pytest.param(OK + b"\r\n" + b"x" * (REPLY_CAP + 2 * HEAD_CAP), "longer", id="a body"),
    ],
)
def test_what_is_no_answer(answer: bytes, words: str, minted: Minted) -> None:
    with server(minted, answer, 1 << 12) as (url, _):
        client = wire(minted)
        with pytest.raises(WireError, match=words):
            client.exchange("GET", url, None, {})
        client.close()


def test_the_answer_to_head_has_no_body(minted: Minted) -> None:
    with server(minted, OK + b"Content-Length: 9\r\nReplay-Nonce: x\r\n\r\n", 1 << 12) as (
        url,
        asked,
    ):
        client = wire(minted)
        for _ in range(2):
            found = client.exchange("HEAD", url, None, {})
            assert found == Answer(200, {"content-length": "9", "replay-nonce": "x"}, b"")
        client.close()
    assert len(asked) == 2


def test_a_request_as_the_server_gets_it(minted: Minted) -> None:
    with server(minted, OK + b"Content-Length: 0\r\n\r\n", 1 << 12) as (url, asked):
        client = wire(minted)
        client.exchange("POST", f"{url}/a?b=c", b"{}", {"X-Y": "z"})
        client.close()
    host = url.removeprefix("https://").encode()
    assert asked == [
        b"POST /a?b=c HTTP/1.1\r\nHost: " + host + b"\r\nX-Y: z\r\nContent-Length: 2\r\n\r\n{}"
    ]


@pytest.mark.parametrize("path", ["/a b", "/ü", "/\x7f", "/\x01", "?q= HTTP/1.1"])
def test_a_url_that_would_be_another_request(path: str, minted: Minted) -> None:
    with (
        server(minted, OK + b"Content-Length: 0\r\n\r\n", 1 << 12) as (url, asked),
        pytest.raises(WireError, match="characters"),
    ):
        wire(minted).exchange("GET", url + path, None, {})
    assert not asked


@pytest.mark.parametrize(
    "url", ["https://ca.example:99999/", "https://[::1/", "https://ca.example:x/", "https://a..b/"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(WireError):
        Wire(ssl.create_default_context(), silence=5, deadline=10).exchange("GET", url, None, {})


# Several addresses


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port of 127.0.0.1 that neither takes nor refuses a connection: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def _resolve_to(ports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
        for port in ports
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *question, **options: addresses)


def test_all_addresses_together_have_one_deadline(
    deaf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _resolve_to([deaf] * 50, monkeypatch)  # by turns: 30 s
    begun = time.monotonic()
    with pytest.raises(WireError, match="in time"):
        Wire(ssl.create_default_context(), silence=0.6, deadline=1).exchange(
            "GET", "https://ca.example/", None, {}
        )
    assert time.monotonic() - begun < 10


def test_an_address_that_takes_no_connection_leaves_time_for_the_next(
    deaf: int, minted: Minted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(minted, OK + b"Content-Length: 2\r\n\r\n{}", 1 << 12) as (url, _):
        good = int(url.rpartition(":")[2])
        client = Wire(ssl.create_default_context(cafile=minted.root), silence=5, deadline=2)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            _resolve_to([unused.getsockname()[1], deaf, good], monkeypatch)
            assert client.exchange("GET", "https://localhost/", None, {}).body == b"{}"
        client.close()
