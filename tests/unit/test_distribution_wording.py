"""What a hub reads and what its clients read, from whoever says it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd.distribution import wording
from certd.distribution.wording import Given, Listed, Malformed, Request
from certd.secrets import Secret
from certd.testing.chains import bundle

END = b" HTTP/1.1\r\nHost: hub\r\n\r\n"
PRINT = "ab" * 32


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (b"GET /v1/certificates", Request(None)),
        (b"GET /v1/certificates?since=&wait=50", Request(None, "", 50)),
        (b"GET /v1/certificates?wait=50&since=abc", Request(None, "abc", 50)),
        (b"GET /v1/certificates?wait=9999", Request(None, "", wording.LONGEST_WAIT)),
        (b"GET /v1/certificates/www.rsa?since=abc", Request("www.rsa", "abc")),
        (b"GET /v1/certificates/", None),
        (b"GET /v1/certificates/.www", None),
        (b"GET /v1/certificates/www/key", None),
        (b"GET /v1/certificates/%77ww", None),
        (b"GET /v1/certificates?wait=99999", None),
        (b"GET /v1/certificates?wait=1e3", None),
        (b"GET /v1/certificates?wait=\xd9\xa1", None),
        (b"GET /v1/certificates?who=me", None),
        (b"GET /v1/certificates?a=1&b=2&c=3&d=4&e=5", None),
        (b"GET /v2/certificates", None),
        (b"GET http://hub/v1/certificates", None),
        (b"get /v1/certificates", None),
        (b"HEAD /v1/certificates", None),
        (b"", None),
    ],
)
def test_requests(text: bytes, asked: Request | None) -> None:
    assert wording.request(text + END) == asked


@pytest.mark.parametrize(
    "header", ["Content-Length: 0", "transfer-encoding : chunked", "Expect: 100-continue"]
)
def test_a_request_has_no_body(header: str) -> None:
    head = f"GET /v1/certificates HTTP/1.1\r\n{header}\r\n\r\n".encode()
    assert wording.request(head) is None


def test_the_last_request_says_so() -> None:
    head = b"GET /v1/certificates HTTP/1.1\r\nconnection: Close\r\n\r\n"
    assert wording.request(head) == Request(None, last=True)


@given(st.binary(max_size=200))
def test_no_request_breaks_the_reader(junk: bytes) -> None:
    wording.request(junk + END)
    wording.request(b"GET /v1/certificates" + junk + END)


def test_what_is_said_is_understood() -> None:
    made = bundle("www", 7)
    given = wording.read_certificate(wording.certificate_body(made), "www")
    assert given == Given(7, made.fullchain_pem, made.key_pem)
    assert made.key_pem.reveal() not in repr(given)
    listed = wording.listed({"www": PRINT, "mail": PRINT})
    assert wording.read_list(wording.list_body(listed)) == listed
    assert listed.state == wording.listed({"mail": PRINT, "www": PRINT}).state
    assert listed.state != wording.listed({"www": PRINT}).state


GOOD = {"name": "www", "version": 1, "fullchain": "pem", "key": "the-secret"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "another kind"),
        (json.dumps(GOOD | {"name": "mail"}).encode(), "another certificate"),
        (json.dumps(GOOD | {"version": "1"}).encode(), "no version"),
        (json.dumps(GOOD | {"fullchain": None}).encode(), "no version, no fullchain"),
        (json.dumps(GOOD | {"key": ["the-secret"]}).encode(), "no key"),
    ],
)
def test_an_answer_that_is_none(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        wording.read_certificate(body, "www")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"state": "x", "certificates": {}},
        {"state": PRINT},
        {"state": PRINT, "certificates": {"www": "ff"}},
        {"state": PRINT, "certificates": [PRINT]},
    ],
)
def test_a_list_that_is_none(body: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        wording.read_list(json.dumps(body).encode())


def test_an_answer_that_has_a_key_of_the_hubs_own_only() -> None:
    assert wording.read_certificate(json.dumps(GOOD | {"key": ""}).encode(), "www").key_pem == (
        Secret("")
    )
    assert wording.read_list(wording.list_body(wording.listed({}))) == Listed(
        wording.listed({}).state, {}
    )
