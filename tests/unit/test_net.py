"""The pure parts of the way to a CA: Retry-After, problem documents, origins, replies."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd.ca import net
from certd.ca.net import Network, Reply
from certd.ca.problem import Problem, glimpse, problem_of, retry_after
from certd.ca.reading import Answer, WireError
from certd.ca.wire import Wire
from certd.errors import CAError, ConfigError
from certd.silence import AGAIN, LEFT_ALONE

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
URL = "https://ca.example/order/1"
PREFIX = "urn:ietf:params:acme:error:"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("", None, id="empty"),
        pytest.param("5", 5.0, id="seconds"),
        pytest.param("  5 ", 5.0, id="spaces"),
        pytest.param("0", 0.0, id="at once"),
        pytest.param("315360000", 86400.0, id="ten years are a day"),
        pytest.param("9" * 500, 86400.0, id="a giant number"),
        pytest.param("-5", None, id="negative"),
        pytest.param("1.5", None, id="a fraction is none of the two forms"),
        pytest.param("١٠", None, id="digits of another script"),
        pytest.param("Thu, 01 Jan 2026 12:02:00 GMT", 120.0, id="HTTP-date"),
        pytest.param("Thursday, 01-Jan-26 12:02:00 GMT", 120.0, id="RFC 850 date"),
        pytest.param("Thu Jan  1 12:02:00 2026", 120.0, id="asctime, which has no zone"),
        pytest.param("Thu, 01 Jan 2026 14:02:00 +0200", 120.0, id="another zone"),
        pytest.param("Thu, 01 Jan 2026 11:00:00 GMT", 0.0, id="in the past"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0, id="the end of time"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", 86400.0, id="after the end of time"),
        pytest.param("Thu, 99 Jan 2026 12:02:00 GMT", None, id="no such day"),
        pytest.param("soon", None, id="words"),
        pytest.param("+5", None, id="plus"),
        pytest.param("5.", None, id="a point"),
        pytest.param("1e3", None, id="an exponent"),
        pytest.param("0x10", None, id="hexadecimal"),
        pytest.param("1_000", None, id="Python's own thousands"),
        pytest.param("5, 7", None, id="two of them"),
        pytest.param("\xb2", None, id="a superscript"),
        pytest.param("inf", None, id="for ever"),
        pytest.param("nan", None, id="no number"),
        pytest.param("5\0", None, id="NUL"),
        pytest.param("000000000007", 7.0, id="noughts in front"),
        pytest.param("Thu, 01 Jan 0000 12:02:00 GMT", 0.0, id="the year 0 is taken for 2000"),
        pytest.param("Thu, 01 Jan 10000 12:02:00 GMT", None, id="the year 10000"),
        pytest.param("Thu, 01 Jan 2026 25:61:61 GMT", None, id="no such time"),
        pytest.param("Thu, 01 Jan 2026 12:02:60 GMT", None, id="a leap second"),
        pytest.param("Thu, 01 Jan 2026 12:02:00 +9999999", None, id="a zone out of this world"),
        pytest.param("2026-01-01T12:02:00Z", None, id="the date of another standard"),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=60) | st.from_regex(r"\A\w{3}, \d{1,4} \w{3} \d{1,6} \d\d:\d\d:\d\d .*"))
def test_no_retry_after_is_too_odd(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= 86400


# -- problem documents --------------------------------------------------------------------


def problem(body: bytes, status: int = 400, **headers: str) -> Problem:
    return problem_of(URL, status, headers, body)


def test_a_problem_keeps_what_the_ca_said() -> None:
    found = problem(
        json.dumps(
            {
                "type": PREFIX + "rejectedIdentifier",
                "detail": "some names are refused",
                "instance": "https://ca.example/why",
                "subproblems": [
                    {
                        "type": PREFIX + "caa",
                        "detail": "CAA forbids it",
                        "identifier": {"type": "dns", "value": "bad.example.com"},
                    },
                    "nonsense",
                ],
            }
        ).encode(),
        status=403,
        **{"retry-after": "7"},
    )
    assert (found.status, found.type) == (403, "rejectedIdentifier")
    assert found.detail == "some names are refused"
    assert found.retry_after == 7.0
    assert found.instance == "https://ca.example/why"
    assert len(found.subproblems) == 1
    for words in (
        URL,
        "some names are refused",
        "bad.example.com: CAA forbids it",
        "see https://ca.example/why",
    ):
        assert words in str(found)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html><h1>502 Bad Gateway", id="HTML"),
        pytest.param(b"[1, 2]", id="an array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b'{"type": 7}', id="a type that is a number"),
        pytest.param(b'{"type": null, "subproblems": 5}', id="subproblems that are a number"),
        pytest.param(b'{"subproblems": {"a": "b"}}', id="subproblems that are an object"),
        pytest.param(b'{"detail": ["a"], "subproblems": [{"identifier": 5}]}', id="odd parts"),
        pytest.param(b'{"instance": {"a": 1}}', id="an instance that is an object"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"\xff\xfe\x00" * 50, id="bytes"),
        pytest.param(b'{"type": "' + b"x" * 1000 + b'"}', id="an unknown type"),
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_an_odd_problem_is_a_problem(body: bytes, status: int) -> None:
    found = problem(body, status)
    assert found.status == status
    assert isinstance(found.type, str)
    assert found.instance is None or isinstance(found.instance, str)
    assert str(found).isprintable()
    assert found.transient is (status == 500)


@pytest.mark.parametrize(
    ("status", "type", "transient"),
    [
        pytest.param(None, "", True, id="no answer"),
        pytest.param(500, "", True, id="500"),
        pytest.param(503, "serverInternal", True, id="503"),
        pytest.param(429, "", True, id="429"),
        pytest.param(403, "rateLimited", True, id="rateLimited with another status"),
        pytest.param(400, "badNonce", True, id="badNonce"),
        pytest.param(403, "unauthorized", False, id="unauthorized"),
        pytest.param(400, "malformed", False, id="malformed"),
        pytest.param(404, "", False, id="404"),
    ],
)
def test_what_may_succeed_later(status: int | None, type: str, transient: bool) -> None:
    assert Problem(URL, status, type, "why").transient is transient


@pytest.mark.parametrize("key", ["detail", "title", "type", "instance"])
def test_a_ca_has_no_way_to_a_terminal_and_no_endless_words(key: str) -> None:
    words = "\x1b]0;hello\x07\r\n" + "x" * 2000
    subproblem = {"detail": words, "identifier": {"type": "dns", "value": words}}
    found = problem(json.dumps({key: words, "subproblems": [subproblem] * 1000}).encode())
    assert str(found).isprintable()
    assert len(str(found)) < 50_000


def test_a_redirect_is_a_problem() -> None:
    assert "redirects" in str(problem(b"", 302, Location="https://other.example"))


@pytest.mark.parametrize("status", [None, 400])
def test_the_url_of_a_problem_cannot_write_to_the_terminal(status: int | None) -> None:
    found = Problem("https://ca.example/\x1b[2J", status, "", "")
    assert found.what.isprintable()


# -- replies ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b"[" * 100_000, b"\xff"])
def test_a_reply_that_is_no_object_is_told_by_its_url(body: bytes) -> None:
    with pytest.raises(CAError, match=r"ca\.example"):
        Reply(URL, {}, body).json()


@given(st.binary(max_size=400))
def test_a_glimpse_of_a_body_is_short_and_printable(body: bytes) -> None:
    shown = glimpse(body)
    assert shown.isprintable()
    assert len(shown) < 500


# -- where requests may go ----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://ca.example/order/1", id="no TLS"),
        pytest.param("https://other.example/order/1", id="another host"),
        pytest.param("https://ca.example:8443/order/1", id="another port"),
        pytest.param("https://ca.example@other.example/", id="the CA as a user name"),
        pytest.param("https://ca.example.other.example/", id="the CA as a subdomain"),
        pytest.param("https://ca.example:99999/", id="no such port"),
        pytest.param("https://[::1/", id="half an address"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("//ca.example/", id="no scheme"),
        pytest.param("https:///order/1", id="no host"),
        pytest.param("", id="nothing"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param(["https://ca.example/"], id="a list"),
    ],
)
@pytest.mark.parametrize(
    "trusted", ["https://ca.example/dir", "https://ca.example:99999/dir", "http://ca.example/dir"]
)
def test_only_the_ca_itself_is_asked(url: Any, trusted: str) -> None:
    network = Network(None)
    network.trust("https://ca.example/dir")
    network.trust(trusted)
    with pytest.raises(CAError, match="refused to ask"):
        network.get(url)


def test_the_default_port_is_the_same_origin() -> None:
    assert net._origin("https://CA.example/a") == net._origin("https://ca.example:443/b?c")


def test_a_bundle_that_is_none_is_told(tmp_path: Path) -> None:
    bundle = tmp_path / "roots.pem"
    bundle.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"roots\.pem"):
        Network(bundle)


@pytest.mark.parametrize(
    ("nonce", "kept"),
    [
        pytest.param("abc-_XYZ0", False, id="a length that base64url never has"),
        pytest.param("abd", False, id="bits that a second encoding would change"),
        pytest.param("abc-_XYZ09_A", True, id="base64url"),
        pytest.param(None, False, id="none"),
        pytest.param("", False, id="empty"),
        pytest.param("a b", False, id="a space"),
        pytest.param("a+b/", False, id="base64 of the other kind"),
        pytest.param("x" * 513, False, id="too long"),
        pytest.param("né", False, id="not ASCII"),
    ],
)
def test_nonces_are_base64url(nonce: Any, kept: bool) -> None:
    network = Network(None)
    network._keep_nonce(nonce)
    assert (network._nonces == [nonce]) is kept


def test_the_youngest_nonce_goes_first_and_not_all_are_kept() -> None:
    network = Network(None)
    for number in range(200):
        network._keep_nonce(f"n{number:03}")
    assert network._nonce() == "n199"
    assert len(network._nonces) == net.NONCE_POOL - 1


class _Stolen(list[str]):
    """A pool from which another thread has always just taken the last nonce."""

    def __bool__(self) -> bool:
        return False


def test_a_nonce_that_was_fetched_is_for_who_fetched_it() -> None:
    network = Network(None)
    network.trust("https://ca.example/")
    network.new_nonce_url = "https://ca.example/nonce"
    network._nonces = _Stolen()
    network._wire = cast(Wire, _Answering(Answer(200, {"replay-nonce": "abc-"}, b"")))
    assert network._nonce() == "abc-"
    assert list(network._nonces) == []


class _Answering:
    """A wire at whose other end there is always the same answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def exchange(self, *request: object) -> Answer:
        return self._answer


class _Mute:
    """Answers only what ``answers`` has; counts what it was asked for."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked = 0

    def exchange(self, method: str, url: str, *rest: object) -> Answer:
        self.asked += 1
        if url in self.answers:
            return Answer(200, {}, b"{}")
        raise WireError("it did not answer in time") from TimeoutError()


class _Failing:
    """A wire that fails for this reason."""

    def __init__(self, cause: Exception) -> None:
        self._cause = cause

    def exchange(self, *request: object) -> Answer:
        raise WireError("it failed") from self._cause


def _untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("cause", "next", "transient"),
    [
        pytest.param(_untrusted(20), "set ca_bundle in [ca.le]", False, id="unknown root"),
        pytest.param(_untrusted(10), "this machine's clock", False, id="expired"),
        pytest.param(_untrusted(62), "directory in [ca.le]", False, id="another name"),
        pytest.param(ConnectionRefusedError(), "DNS and firewall", True, id="refused"),
        pytest.param(socket.gaierror(), "DNS and firewall", True, id="unknown host"),
        pytest.param(ConnectionResetError(), "", True, id="reset"),
        pytest.param(TimeoutError(), "", True, id="silence"),
    ],
)
def test_what_to_do_about_no_answer(cause: Exception, next: str, transient: bool) -> None:
    network = Network(None, "le")
    network.trust(URL)
    network._wire = cast(Wire, _Failing(cause))
    with pytest.raises(Problem) as caught:
        network.get(URL)
    assert caught.value.why == "it failed"
    assert next in caught.value.next
    assert bool(caught.value.next) is bool(next)
    assert caught.value.transient is transient


NEW_ORDER = "https://ca.example/new-order"


def test_what_is_mute_is_left_alone() -> None:
    network, wire = Network(None), _Mute(URL)
    network.trust(URL)
    network.tell_apart([NEW_ORDER])
    network._wire = cast(Wire, wire)
    with pytest.raises(Problem, match="in time") as first:
        network.get(NEW_ORDER)
    with pytest.raises(Problem, match="left alone") as second:
        network.get(NEW_ORDER)
    with pytest.raises(Problem, match="left alone"):
        network.spare(NEW_ORDER)
    assert wire.asked == 1
    assert second.value.status is None
    assert second.value.retry_after == pytest.approx(LEFT_ALONE, abs=1)
    assert first.value.retry_after == AGAIN > LEFT_ALONE, "others try it first"
    network.get(URL)
