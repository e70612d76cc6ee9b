"""The CAs' lists of what they have revoked: which is named, what is believed, what is fetched."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from hypothesis import assume, given
from hypothesis import strategies as st

from certd import crls
from certd.ca import crl
from certd.ca.route import Route
from certd.errors import CAError
from certd.references import SecretReference
from certd.secrets import Secret
from certd.testing.chains import DAY, HOUR, NOW, Authority, distribution_point, pem
from certd.x509 import BadCRL, crl_url, new_key, read_crl

URL = "http://crl.example/1.crl"
ROOT = Authority.root()
CA = ROOT.authority("Intermediate 1")
OTHER = ROOT.authority("Intermediate 1")  # the same name, another key
CHAIN = pem(CA.certificate)
KEY = new_key("ec-p256")
GOOD = CA.crl(7, 8)
# A list and its like, for the names that a leaf gives it.
directory = x509.DirectoryName(x509.Name([]))


def scope(**values: object) -> tuple[x509.ExtensionType, bool]:
    """Of a list: which part it is."""
    rest = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    no = ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl")
    flags = dict.fromkeys((*no, "only_contains_attribute_certs"), False)
    return x509.IssuingDistributionPoint(**{**rest, **flags, **values}), True  # type: ignore[arg-type]


def at(url: str) -> list[x509.UniformResourceIdentifier]:
    return [x509.UniformResourceIdentifier(url)]


@pytest.mark.parametrize(
    ("points", "url"),
    [
        pytest.param([], "", id="none"),
        pytest.param([distribution_point(URL)], URL, id="one"),
        pytest.param([distribution_point("ldap://x/y", URL)], URL, id="also by LDAP"),
        pytest.param([distribution_point("https://x/y")], "", id="https would need another list"),
        pytest.param(
            [
                distribution_point(URL + "a", reasons=frozenset([x509.ReasonFlags.superseded])),
                distribution_point(URL),
            ],
            URL,
            id="not one for some reasons",
        ),
        pytest.param(
            [distribution_point(URL, crl_issuer=[directory])], "", id="not somebody else's"
        ),
    ],
)
def test_the_list_that_a_leaf_names(points: list[x509.DistributionPoint], url: str) -> None:
    assert crl_url(pem(CA.leaf(KEY, "a.example", crls=points))) == url


def test_a_list_says_what_is_revoked_since_when_and_why() -> None:
    der = CA.crl(7, 8, 9, reason=x509.ReasonFlags.key_compromise)
    found = read_crl(der, CHAIN, URL, {7, 10}, NOW)
    assert found.listed.keys() == {7}
    assert found.listed[7].reason == "keyCompromise"
    assert found.listed[7].revoked_at == NOW - HOUR
    assert found.next_update == NOW + DAY
    assert read_crl(CA.crl(7), CHAIN, URL, {7}, NOW).listed[7].reason == "unspecified"


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(CA.crl(7, next_update=NOW - HOUR / 2), id="an old list"),
        pytest.param(CA.crl(7, extensions=[scope(full_name=at(URL))]), id="the part that is ours"),
        pytest.param(CA.crl(7, extensions=[scope(only_contains_user_certs=True)]), id="of users"),
        pytest.param(CA.crl(7, extensions=[(x509.CRLNumber(3), False)]), id="with a number"),
    ],
)
def test_what_is_unusual_but_right_is_believed(der: bytes) -> None:
    assert read_crl(der, CHAIN, URL, {7}, NOW).listed.keys() == {7}


@pytest.mark.parametrize(
    ("der", "why"),
    [
        pytest.param(b"", "cannot be read", id="empty"),
        pytest.param(b"<html>", "cannot be read", id="a page"),
        pytest.param(CA.crl(7)[:-1], "cannot be read", id="cut off"),
        pytest.param(ROOT.crl(7), "it is CN=Root X's, not CN=Intermediate 1's", id="another's"),
        pytest.param(OTHER.crl(7), "CN=Intermediate 1 has not signed it", id="another key"),
        pytest.param(
            CA.crl(7, last_update=NOW + HOUR, next_update=NOW + DAY), "still to come", id="future"
        ),
        pytest.param(
            CA.crl(7, extensions=[scope(full_name=at(URL + "2"))]), "another of", id="other part"
        ),
        pytest.param(
            CA.crl(7, extensions=[scope(only_contains_ca_certs=True)]), "not about", id="of CAs"
        ),
        pytest.param(CA.crl(7, extensions=[scope(indirect_crl=True)]), "not about", id="indirect"),
        pytest.param(
            CA.crl(7, extensions=[(x509.DeltaCRLIndicator(1), True)]), "critical", id="a delta"
        ),
    ],
)
def test_what_is_not_believed_and_why(der: bytes, why: str) -> None:
    with pytest.raises(BadCRL, match=why) as raised:
        read_crl(der, CHAIN, URL, {7}, NOW)
    assert URL in str(raised.value)


def unused_bits(der: bytes) -> int:
    """Where a signature begins: the octet that says how many of its last bits do not count.

    It is neither signed nor of the signature; with a last bit of 0, another there means the same.
    """
    [at] = [
        len(der) - size
        for size in range(64, 80)  # an ECDSA signature's of P-256 with that octet
        if der[-size - 2 : -size + 1] == bytes((3, size, 0))
    ]
    return at


@given(st.integers(0, 999), st.integers(1, 255))
def test_no_damage_to_a_list_raises_anything_else(place: int, damage: int) -> None:
    der = bytearray(GOOD)
    assume(place % len(der) != unused_bits(GOOD))
    der[place % len(der)] ^= damage
    with pytest.raises(BadCRL):  # each octet is signed, or is the signature
        read_crl(bytes(der), CHAIN, URL, {7}, NOW)


@pytest.mark.parametrize(
    ("next_update", "wait"),
    [
        pytest.param(NOW + 10 * DAY, DAY, id="daily, though it is good for longer"),
        pytest.param(NOW + 5 * HOUR, 5 * HOUR, id="when it is over"),
        pytest.param(NOW + HOUR / 60, HOUR, id="not all the time"),
        pytest.param(NOW - DAY, HOUR, id="one that is over"),
    ],
)
def test_when_a_list_is_looked_at_again(next_update: datetime, wait: timedelta) -> None:
    assert crls.next_look(next_update, 0.0, NOW) == NOW + wait
    assert NOW + wait < crls.next_look(next_update, 0.99, NOW) < NOW + wait * 1.1


# -- fetching ------------------------------------------------------------------------------

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(answer, …)``: the URL of a server on loopback that sends these octets, each in
    turn as soon as it may, and hangs up.
    """
    with ExitStack() as stack:

        def start(*answer: bytes, ending: threading.Event | None = None) -> str:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def work() -> None:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                peers.append(connection.getpeername()[0])
                with connection:
                    try:
                        asked.append(connection.recv(4096))
                        for part in answer:
                            connection.sendall(part)
                        if ending:
                            ending.wait(10)
                    except OSError:
                        pass  # hung up on, as it deserves

            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(thread.join)
            if ending:
                stack.callback(ending.set)
            return f"http://127.0.0.1:{listening.getsockname()[1]}/a.crl?b=c"

        asked: list[bytes] = []
        peers: list[str] = []
        start.asked, start.peers = asked, peers  # type: ignore[attr-defined]
        yield start


def test_a_list_is_fetched_by_plain_http(serve: Serve) -> None:
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    assert crl.fetch(url, public=False) == b"abc"
    [request] = serve.asked  # type: ignore[attr-defined]
    assert request.startswith(b"GET /a.crl?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"User-Agent: certd/" in request


def test_a_list_is_asked_for_through_the_cas_proxy(serve: Serve) -> None:
    """With the whole URL, whose name is for the proxy to look up."""
    password = SecretReference("plain", Secret("secret"))

    def through(answer: bytes) -> bytes:
        port = urlsplit(serve(answer)).port
        assert port
        route = Route(proxy=("127.0.0.1", port), user="certd", password=password, table="[ca.x]")
        return crl.fetch("http://lists.test/a.crl?b=c", public=True, route=route)

    assert through(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") == b"abc"
    [request] = serve.asked  # type: ignore[attr-defined]
    lines = request.decode().split("\r\n")
    assert lines[:2] == ["GET http://lists.test/a.crl?b=c HTTP/1.1", "Host: lists.test"]
    assert "Proxy-Authorization: Basic Y2VydGQ6c2VjcmV0" in lines
    with pytest.raises(CAError, match=r"does not take the user and password \(HTTP 407\)"):
        through(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(CAError, match=r"HTTP 403 \(by its proxy 127.0.0.1:"):
        through(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    for url in ("http://10.0.0.1/a", "http://lists.test:8200/a"):
        with pytest.raises(CAError, match=r"a list is not asked for|port 8200 is none"):
            crl.fetch(url, public=True, route=Route(proxy=("127.0.0.1", 1)))


def test_a_list_is_asked_for_from_the_address_that_the_ca_is_asked_from(serve: Serve) -> None:
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    assert crl.fetch(url, public=False, route=Route("127.0.0.2")) == b"abc"
    assert serve.peers == ["127.0.0.2"]  # type: ignore[attr-defined]
    with pytest.raises(CAError, match=r"192.0.2.7 cannot be asked from .*source_address in"):
        crl.fetch(url, public=False, route=Route("192.0.2.7"))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "404", id="404"),
        pytest.param(
            [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"],
            "HTTP 302",
            id="a redirect is not followed",
        ),
        pytest.param([b"SSH-2.0-OpenSSH\r\n"], "not HTTP", id="not HTTP"),
        pytest.param([], "without an answer", id="nothing"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"], "in the middle", id="cut off"
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", *[bytes(1 << 20)] * 17],
            "longer than 16 MiB",
            id="too long",
        ),
    ],
)
def test_what_is_no_list_is_told(answer: list[bytes], why: str, serve: Serve) -> None:
    with pytest.raises(CAError, match=why) as raised:
        crl.fetch(serve(*answer), public=False)
    assert "was not fetched" in raised.value.what


def test_a_server_that_drips_is_left_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crl, "SECONDS", 0.2)
    silent = threading.Event()
    with pytest.raises(CAError, match="in time"):
        crl.fetch(
            serve(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", ending=silent), public=False
        )
    silent.set()


@pytest.mark.parametrize(
    ("url", "public", "why"),
    [
        pytest.param("http://127.0.0.1/a", True, "127.0.0.1 is 127.0.0.1, where", id="loopback"),
        pytest.param("http://10.0.0.1/a", True, "where a list is not asked for", id="private"),
        pytest.param("http://[::ffff:10.0.0.1]/a", True, "where a list is not", id="mapped"),
        pytest.param("http://[fd00::1]/a", True, "where a list is not asked", id="private IPv6"),
        pytest.param("http://192.0.2.1:8200/a", True, "port 8200 is none at which", id="port"),
        pytest.param("http://169.254.169.254/a", False, "where a list is not", id="link-local"),
        pytest.param("http://0.0.0.0/a", False, "where a list is not asked for", id="no address"),
        pytest.param("http://:80/a", False, "no host", id="no host"),
        pytest.param("http://[::1/a", False, "Invalid IPv6", id="no URL"),
    ],
)
def test_where_no_list_is_asked_for(url: str, public: bool, why: str) -> None:
    """Nothing is sent: none of these addresses is connected to."""
    with pytest.raises(CAError, match=why):
        crl.fetch(url, public=public)
