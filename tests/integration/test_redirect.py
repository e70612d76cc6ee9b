"""``redirect = "https"`` over real sockets: who is sent on, and who still gets the constant 404."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certd.challenges.http01 import Responder, to_https
from tests.integration.test_http01 import (
    KEY_AUTHORIZATION,
    NOT_FOUND,
    TOKEN,
    Address,
    answer,
    get,
    serving,
)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    responder = Responder(lambda token: None, otherwise=to_https)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as address:
        yield address


def request_for(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = (f"{method} {path} HTTP/{version}", *(fields or ("Host: www.example.com",)))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(
    ("request_", "location"),
    [
        pytest.param(request_for("/"), "www.example.com/", id="the root"),
        pytest.param(request_for("/", method="HEAD"), "www.example.com/", id="HEAD"),
        pytest.param(request_for("/", version="1.0"), "www.example.com/", id="HTTP/1.0"),
        pytest.param(
            request_for("/a%20b/c;d?e=f|g&h={i}"),
            "www.example.com/a%20b/c;d?e=f|g&h={i}",
            id="path and query as they are",
        ),
        pytest.param(
            request_for("//evil.example/"), "www.example.com//evil.example/", id="two slashes"
        ),
        pytest.param(
            request_for("/.well-known/security.txt"),
            "www.example.com/.well-known/security.txt",
            id="another well-known place",
        ),
        pytest.param(
            request_for("/", "Accept: */*", "HOST:\tWww.Example.com:80 ", "Cookie: a=\xfc"),
            "Www.Example.com/",
            id="a port, capitals, other fields",
        ),
        pytest.param(request_for("/", "Host: www.example.com."), "www.example.com./", id="a dot"),
        pytest.param(request_for("/", "Host: 192.0.2.1:80"), "192.0.2.1/", id="an IPv4 address"),
        pytest.param(request_for("/", "Host: [2001:db8::1]"), "[2001:db8::1]/", id="an IPv6 one"),
        pytest.param(request_for("/", "Host: localhost"), "localhost/", id="one label"),
        pytest.param(
            request_for("/" + "a" * 8000), "www.example.com/" + "a" * 8000, id="a long path"
        ),
    ],
)
def test_a_browser_is_sent_to_https(address: Address, request_: bytes, location: str) -> None:
    assert answer(address, request_).decode().split("\r\n") == [
        "HTTP/1.1 301 Moved Permanently",
        f"Location: https://{location}",
        "Content-Length: 0",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get("A" * 43), id="an unknown token"),
        pytest.param(get(TOKEN + "/"), id="below a token"),
        pytest.param(get(TOKEN, "POST"), id="POST of a token"),
        pytest.param(request_for("/", method="POST"), id="POST"),
        pytest.param(request_for("/", method="CONNECT"), id="CONNECT"),
        pytest.param(request_for("*", method="OPTIONS"), id="OPTIONS"),
        pytest.param(request_for("/", version="2.0"), id="another version"),
        pytest.param(request_for("http://www.example.com/"), id="a proxy's form"),
        pytest.param(request_for("www.example.com"), id="no slash"),
        pytest.param(request_for("/a b"), id="a space in the path"),
        pytest.param(request_for("/a\tb"), id="a tab in the path"),
        pytest.param(request_for("/a\nSet-Cookie: b"), id="a bare line feed in the path"),
        pytest.param(request_for("/\xe4"), id="a byte that is not ASCII"),
        pytest.param(request_for('/"<>'), id="characters of HTML"),
        pytest.param(request_for("/", "Accept: */*"), id="no Host"),
        pytest.param(request_for("/", "Host:"), id="an empty Host"),
        pytest.param(request_for("/", "Host: a.example", "Host: b.example"), id="two Hosts"),
        pytest.param(request_for("/", "Host: a.example, b.example"), id="two in one"),
        pytest.param(request_for("/", "Host : a.example"), id="a space before the colon"),
        pytest.param(request_for("/", "Host: a.example", " b"), id="a folded line"),
        pytest.param(request_for("/", "Host: a.example\nX: b"), id="a bare line feed"),
        pytest.param(request_for("/", "Host: a.example\rX: b"), id="a bare carriage return"),
        pytest.param(request_for("/", "Host: a.example\0"), id="a null"),
        pytest.param(request_for("/", "Host: a.example/b"), id="a path"),
        pytest.param(request_for("/", "Host: user@a.example"), id="a user"),
        pytest.param(request_for("/", "Host: a.example?b"), id="a query"),
        pytest.param(request_for("/", "Host: a.example#b"), id="a fragment"),
        pytest.param(request_for("/", "Host: a..example"), id="an empty label"),
        pytest.param(request_for("/", "Host: -a.example"), id="a hyphen in front"),
        pytest.param(request_for("/", "Host: a_b.example"), id="an underscore"),
        pytest.param(request_for("/", "Host: %61.example"), id="an escape"),
        pytest.param(request_for("/", "Host: b\xfccher.example"), id="not ASCII"),
        pytest.param(request_for("/", "Host: a.example:http"), id="a port that is no number"),
        pytest.param(request_for("/", "Host: a.example:"), id="an empty port"),
        pytest.param(request_for("/", "Host: " + "a." * 127 + "example"), id="too long a name"),
        pytest.param(request_for("/", "Host: 192.0.2.256"), id="no IPv4 address"),
        pytest.param(request_for("/", "Host: 0x7f.1"), id="an address as only browsers know it"),
        pytest.param(request_for("/", "Host: [::1%25lo]"), id="a zone"),
        pytest.param(request_for("/", "Host: [:::]"), id="no IPv6 address"),
        pytest.param(request_for("/", "Host: ::1"), id="IPv6 without brackets"),
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", id="TLS"),
    ],
)
def test_all_else_still_gets_the_constant_404(address: Address, request_: bytes) -> None:
    assert answer(address, request_) == NOT_FOUND


def test_a_published_token_is_answered_and_not_sent_on(address: Address) -> None:
    assert answer(address, get(TOKEN)).endswith(KEY_AUTHORIZATION.encode())


SENT_ON = re.compile(
    rb"HTTP/1\.1 301 Moved Permanently\r\nLocation: https://[A-Za-z0-9.:\[\]-]+/[!-~]*\r\n"
    rb"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
PIECES = (
    b"GET /",
    b" HTTP/1.1",
    b"\r\n",
    b"\n",
    b"Host: ",
    b"a.example",
    b":80",
    b"[",
    b"]",
    b"/",
    b"@",
)


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join))
@example(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
def test_hostile_requests_get_one_location_or_the_404(received: bytes) -> None:
    said = to_https(received)
    assert said == NOT_FOUND or SENT_ON.fullmatch(said)
