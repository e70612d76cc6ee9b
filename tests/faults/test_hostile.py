"""A CA, or somebody in its place, that answers with nonsense or worse (fault 5, threat model).

Whatever it says: a typed error that is shown, few exchanges, nothing asked elsewhere,
nothing written; and once it talks sense, one certificate.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certd.known import Failure
from certd.testing.exchanges import Act, Exchange, Forward, Reply
from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA
from certd.testing.tls import mint
from tests.faults.driving import Driver
from tests.site import Site

EXCHANGES = 80  # of one failed attempt at most
SHOWN = 4000  # characters of an error at most


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A listening socket to which nobody may ever connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with contextlib.suppress(BlockingIOError):
            listener.accept()[0].close()
            raise AssertionError("certd connected to where the CA sent it")


def _url(listener: socket.socket, path: str = "/x") -> str:
    return f"https://127.0.0.1:{listener.getsockname()[1]}{path}"


def _only_if_good(change: Any) -> Act:
    """A rule that leaves the CA's refusals, such as those of nonces, as they are."""

    def act(exchange: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        return change(reply) if reply.status < 300 else reply

    return act


def _issues_in_the_end(site: Site, faulty: FaultyCA, *, attempts: int = 2) -> Failure | None:
    """What the first attempt failed with; then the CA is honest, and issues once."""
    issued = len(faulty.pebble.ledger())
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        failure = lineage.failure
        if failure is not None:
            assert len(faulty.exchanges) <= EXCHANGES
            assert "made a mistake" not in failure.what, failure
            assert len(str(failure)) < SHOWN
            assert str(failure).isprintable()
            assert driver.store.tokens.published("www") == []
        faulty.honest()
        for _ in range(attempts):
            if lineage.failure is not None:
                lineage = driver.retry("www")
        assert lineage.failure is None
        assert lineage.current is not None
    assert [item.serial for item in faulty.pebble.ledger()[issued:]] == [
        lineage.current.certificate.serial
    ]
    return failure


BODIES = [
    pytest.param(b"", id="empty"),
    pytest.param(b"<!DOCTYPE html><html></html>", id="HTML page"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[{}]", id="a list"),
    pytest.param(b"[" * 100_000, id="a hundred thousand brackets"),
    pytest.param(b'{"status":' * 50_000 + b"1" + b"}" * 50_000, id="deeply nested"),
    pytest.param(b'{"status":"valid","pad":"' + b"x" * (2 << 20) + b'"}', id="huge"),
    pytest.param(b"\xff\xfe\x00{", id="not UTF-8"),
]


@pytest.mark.fault(row=5)
@pytest.mark.parametrize("kind", ["directory", "new-order", "authorization", "order", "finalize"])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_object(kind: str, body: bytes, site: Site, faulty: FaultyCA) -> None:
    faulty.on(kind, _only_if_good(lambda reply: replace(reply, body=body)))
    failure = _issues_in_the_end(site, faulty)
    # A finalize whose answer is not read to its end has been done all the same.
    assert failure is not None or kind == "finalize"


@pytest.mark.fault(row=5)
@pytest.mark.parametrize("kind", ["new-account", "challenge", "renewal-info"])
@pytest.mark.parametrize("body", BODIES[:6])
def test_a_body_that_is_not_needed(kind: str, body: bytes, site: Site, faulty: FaultyCA) -> None:
    faulty.on(kind, _only_if_good(lambda reply: replace(reply, body=body)))
    assert _issues_in_the_end(site, faulty) is None


WRONG_TYPES = [
    ("directory", {"newNonce": 7}),
    ("directory", {"newOrder": ["https://x"]}),
    ("directory", {"newAccount": None}),
    ("directory", {"newNonce": "https://ca.example:99999/"}),
    ("directory", {"newOrder": "https://ca.example:99999/\x1b[2J"}),
    ("directory", {"newOrder": "https://[::1/"}),
    ("new-order", {"status": 7}),
    ("new-order", {"status": "dancing"}),
    ("new-order", {"identifiers": "www.example.com"}),
    ("new-order", {"identifiers": [{"type": "dns", "value": 7}]}),
    ("new-order", {"identifiers": [{"type": "tn", "value": "5551234"}]}),
    ("new-order", {"identifiers": [{"type": "dns", "value": "evil.example.net"}]}),
    ("new-order", {"authorizations": "https://x"}),
    ("new-order", {"authorizations": [7]}),
    ("new-order", {"authorizations": [{"url": "x"}]}),
    ("order", {"finalize": 7}),
    ("new-order", {"finalize": None}),
    ("order", {"expires": "tomorrow"}),
    ("order", {"status": "valid", "certificate": 7}),
    ("order", {"status": "invalid", "error": "no"}),
    ("order", {"status": "invalid", "error": {"type": 7, "detail": "\x1b[2J"}}),
    ("order", {"finalize": {"url": "x"}}),
    ("new-order", {"identifiers": [{"type": "dns", "value": "\x1b[2J\x9b.example"}]}),
    ("authorization", {"identifier": None}),
    ("authorization", {"identifier": "www.example.com"}),
    ("authorization", {"status": []}),
    ("authorization", {"challenges": 7}),
    ("authorization", {"challenges": [7]}),
    ("authorization", {"challenges": [{}]}),
    ("authorization", {"challenges": []}),
    ("authorization", {"challenges": [{"type": "\x1b[2J-01", "url": "https://x"}]}),
    ("authorization", {"identifier": {"type": "dns", "value": "\x1b[2J\x9b.example"}}),
    ("authorization", {"wildcard": {"a": 1}, "challenges": [{"type": "http-01"}]}),
]


@pytest.mark.fault(row=5)
@pytest.mark.parametrize(("kind", "changes"), WRONG_TYPES, ids=str)
def test_values_of_the_wrong_type(
    kind: str, changes: Mapping[str, Any], site: Site, faulty: FaultyCA
) -> None:
    faulty.on(kind, _only_if_good(lambda reply: reply.but(**changes)))
    assert _issues_in_the_end(site, faulty) is not None


@pytest.mark.parametrize("end", [" x", "\x9b2J", "\xfc"])
def test_an_order_that_is_nowhere_blocks_no_other(end: str, site: Site, faulty: FaultyCA) -> None:
    faulty.on(
        "new-order",
        _only_if_good(
            lambda reply: reply.with_header("Location", f"{reply.header('Location')}{end}")
        ),
    )
    failure = _issues_in_the_end(site, faulty)
    assert failure is not None
    assert "refused to ask" in failure.what


@pytest.mark.parametrize(
    "url", [None, 7, [], "", "x", "https://ca.example:99999/", "https://[::1/"]
)
def test_a_challenge_that_is_nowhere(url: object, site: Site, faulty: FaultyCA) -> None:
    faulty.on(
        "authorization",
        _only_if_good(
            lambda reply: reply.but(
                challenges=[
                    {
                        name: value
                        for name, value in {**item, "url": url}.items()
                        if value is not None
                    }
                    for item in reply.json()["challenges"]
                ]
            )
        ),
    )
    assert _issues_in_the_end(site, faulty) is not None


PROBLEMS: list[object] = [
    {"type": 7, "detail": {"a": 1}},
    {"type": None, "subproblems": 7},
    {"subproblems": [7, {"identifier": 7}, {"identifier": {"value": [1]}, "detail": 9}]},
    {"type": "urn:ietf:params:acme:error:malformed", "detail": "x" * 900_000},
    {"type": "x" * 100_000, "instance": 7},
    {"detail": "\x1b[2J\x1b]0;owned\x07\nerror all is well\u202e", "instance": "\x1b[2J"},
    {"subproblems": [{"detail": "\x1b[2J" * 1000}] * 1000},
    [],
    "no",
]


@pytest.mark.fault(row=5)
@pytest.mark.parametrize("document", PROBLEMS, ids=lambda document: str(document)[:40])
@pytest.mark.parametrize("status", [400, 500])
def test_problems_that_are_problems(
    status: int, document: object, site: Site, faulty: FaultyCA
) -> None:
    faulty.on("new-order", lambda exchange, forward: Reply.of(status, document))
    assert _issues_in_the_end(site, faulty) is not None


def test_an_order_error_cannot_write_to_the_terminal(site: Site, faulty: FaultyCA) -> None:
    error = {"type": "urn:ietf:params:acme:error:caa", "detail": "\x1b[2J" + "y" * 900_000}
    answer = Reply.of(200, {})
    faulty.on(
        "finalize",
        lambda exchange, forward: answer.but(
            status="invalid", finalize="https://x", authorizations=[], error=error
        ),
    )
    failure = _issues_in_the_end(site, faulty)
    assert failure is not None
    assert "yyyy" in failure.why


# Elsewhere

REDIRECTED = ["directory", "new-order", "authorization", "order", "finalize", "certificate"]


@pytest.mark.parametrize("kind", REDIRECTED)
@pytest.mark.parametrize("status", [301, 307])
def test_redirects_are_not_followed(
    kind: str, status: int, site: Site, faulty: FaultyCA, elsewhere: socket.socket
) -> None:
    reply = Reply(status, {"Location": _url(elsewhere)})
    faulty.on(kind, lambda exchange, forward: reply)
    failure = _issues_in_the_end(site, faulty)
    assert failure is not None
    assert "redirect" in failure.why


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("new-order", lambda reply, url: reply.with_header("Location", url)),
        ("new-order", lambda reply, url: reply.but(authorizations=[url])),
        ("order", lambda reply, url: reply.but(finalize=url)),
        ("order", lambda reply, url: reply.but(certificate=url, status="valid")),
        (
            "authorization",
            lambda reply, url: reply.but(
                challenges=[{**item, "url": url} for item in reply.json()["challenges"]]
            ),
        ),
    ],
    ids=["order", "authorization", "finalize", "certificate", "challenge"],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_url_on_another_origin_is_refused(
    kind: str,
    change: Any,
    scheme: str,
    site: Site,
    faulty: FaultyCA,
    elsewhere: socket.socket,
) -> None:
    url = _url(elsewhere).replace("https", scheme)
    faulty.on(kind, _only_if_good(lambda reply: change(reply, url)))
    failure = _issues_in_the_end(site, faulty)
    assert failure is not None
    assert url in str(failure)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("../../../../tmp/owned-owned-owned", id="a path"),
        pytest.param("A" * 21, id="too short"),
        pytest.param("A" * 5000, id="too long"),
        pytest.param("", id="empty"),
        pytest.param("AAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\nX-Evil: 1", id="a header"),
        pytest.param("AAAAAAAAAAAAAAAAAAAAAA\x00AAAA", id="NUL"),
        pytest.param("$(touch owned)AAAAAAAAAAAAAAAAA", id="a command"),
        pytest.param(7, id="a number"),
        pytest.param(None, id="none"),
    ],
)
def test_a_hostile_token_is_never_used(
    token: object, site: Site, faulty: FaultyCA, pebble: RunningPebble, tmp_path: Path
) -> None:
    webroot = tmp_path / "webroot"
    webroot.mkdir()
    honest_http = dict(site.tables["http"])
    site.tables["http"] = {"webroot": str(webroot)}
    site.write()

    def change(reply: Reply) -> Reply:
        return reply.but(
            challenges=[{**item, "token": token} for item in reply.json()["challenges"]]
        )

    faulty.on("authorization", _only_if_good(change))
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        assert str(failure).isprintable()
        assert driver.store.tokens.published("www") == []
    assert not [path for path in tmp_path.rglob("*owned*") if path.is_file()]
    assert not [path for path in webroot.rglob("*") if path.is_file()]
    assert not faulty.seen("challenge")

    faulty.honest()
    site.tables["http"] = honest_http
    site.write()
    site.renew("www")


# What the operator is told


def test_a_root_that_is_not_the_cas_is_told_at_once(
    site: Site, faulty: FaultyCA, tmp_path: Path
) -> None:
    site.tables["ca.test"]["ca_bundle"] = str(mint(tmp_path / "other").root)
    site.write()
    with Driver(site) as driver:
        failure = driver.attempt("www").failure
        assert failure is not None
        assert driver.waits == []
    assert "not trusted" in failure.why
    assert "no answer" not in failure.why
    assert "set ca_bundle in [ca.test]" in failure.next


def test_a_ca_that_is_not_there_is_told(site: Site) -> None:
    with socket.socket() as unused:  # bound, and refuses
        unused.bind(("127.0.0.1", 0))
        site.tables["ca.test"]["directory"] = _url(unused)
        site.write()
        with Driver(site) as driver:
            failure = driver.attempt("www").failure
    assert failure is not None
    assert failure.why == "Connection refused"
    assert failure.next == "check directory in [ca.test], DNS and firewall"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(404, {}, b"<html>not found"), id="404"),
        pytest.param(Reply(200, {}, b"<html>welcome"), id="a page"),
        pytest.param(Reply.of(200, ["newOrder"]), id="a list"),
        pytest.param(Reply.of(200, {}), id="an empty one"),
    ],
)
def test_a_directory_that_is_none_is_told(answer: Reply, site: Site, faulty: FaultyCA) -> None:
    faulty.on("directory", lambda exchange, forward: answer)
    failure = _issues_in_the_end(site, faulty)
    assert failure is not None
    assert "directory in [ca.test]" in failure.next


@pytest.mark.fault(row=19)
def test_an_order_survives_a_directory_that_is_gone(
    site: Site, faulty: FaultyCA, pebble: RunningPebble
) -> None:
    issued = len(pebble.ledger())
    faulty.on("finalize", lambda exchange, forward: Reply(503, {"Retry-After": "600"}), times=1)
    with Driver(site) as driver:
        assert driver.attempt("www").failure is not None
    faulty.on("directory", lambda exchange, forward: Reply(404), times=1)
    with Driver(site) as driver:
        assert driver.retry("www").failure is not None
        assert driver.retry("www").failure is None
    assert len(faulty.acted_on("new-order")) == 1
    assert len(pebble.ledger()) == issued + 1
