"""The way to a CA: its root and no other, proxies, the address to ask from, versions of TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import josepy
import pytest

from certd.ca import ari
from certd.ca.client import Client
from certd.ca.net import Network
from certd.ca.problem import Problem
from certd.ca.route import Route
from certd.errors import CertdError
from certd.references import SecretReference
from certd.secrets import Secret
from certd.store import Store
from certd.testing.tls import Minted, mint
from certd.x509 import new_key
from tests.integration.answering import OK
from tests.integration.tunnels import Proxy

TABLE = "[ca.own]"
JSON = OK + b"Content-Length: 2\r\n\r\n{}"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def minted(tmp_path: Path) -> Minted:
    return mint(tmp_path / "tls")


class Server:
    """HTTPS on any loopback address; ``clients`` are the addresses that it was asked from."""

    def __init__(
        self,
        pair: Minted,
        answer: bytes = JSON,
        host: str = "127.0.0.1",
        **versions: ssl.TLSVersion,
    ) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.fullchain, pair.key)
        for name, version in versions.items():
            setattr(self.context, name, version)
        self.answer = answer
        self.clients: list[str] = []
        self.asked = 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"https://{f'[{host}]' if ':' in host else host}:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                connection, client = self._listener.accept()
            except OSError:
                return
            self.clients.append(str(client[0]))
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10)
                with self.context.wrap_socket(connection, server_side=True) as tls:
                    while tls.recv(65536):
                        self.asked += 1
                        tls.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def start(minted: Minted) -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def start(pair: Minted = minted, **options: object) -> Server:
            server = Server(pair, **options)  # type: ignore[arg-type]
            thread = threading.Thread(target=server.serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def ask(minted: Minted) -> Callable[..., bytes]:
    """``ask(url, Route(…), minimum)``: what is answered to a GET."""

    def ask(url: str, route: Route, minimum: ssl.TLSVersion = TLS12) -> bytes:
        network = Network(minted.root, "own", 1.0, route, minimum)
        network.trust(url)
        try:
            return network.get(url).body
        finally:
            network.close()

    return ask


Ask = Callable[..., bytes]
Start = Callable[..., Server]


def by(proxy: Proxy | int, **more: object) -> Route:
    port = proxy if isinstance(proxy, int) else proxy.port
    return Route(proxy=("127.0.0.1", port), table=TABLE, **more)  # type: ignore[arg-type]


def plain_password(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


# -- its root, and no other -------------------------------------------------------------------


def test_no_request_trusts_another_root_than_the_cas(
    start: Start, minted: Minted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server of the same CA has a certificate that leads to a root of the system."""
    systems = mint(tmp_path / "system")
    monkeypatch.setenv("SSL_CERT_FILE", str(systems.root))
    other = start(systems)
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 1
    document = {
        name: f"{other.url}/{name}"
        for name in ("newNonce", "newAccount", "newOrder", "renewalInfo")
    }
    body = json.dumps(document).encode()
    ours = start(answer=OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    network = Network(minted.root, "own", 1.0)
    client = Client("own", f"{ours.url}/dir", network, Store.in_memory().accounts)
    client.directory()
    key = josepy.JWK.load(new_key("ec-p256").reveal().encode())
    network._nonces.append("bm9uY2U")
    requests: dict[str, Callable[[], object]] = {
        "POST": lambda: network.post(document["newOrder"], b"", key, "kid"),
        "HEAD": lambda: network.post(document["newOrder"], b"", key, "kid"),  # for a nonce
        "GET": lambda: network.get(document["renewalInfo"]),
    }
    for method, request in requests.items():
        with pytest.raises(Problem, match="not trusted") as caught:
            request()
        assert caught.value.untrusted, method
    with pytest.raises(ari.NoAnswer, match="not trusted"):
        ari.ask(client, "a.b")
    assert (len(other.clients), other.asked) == (4, 0)
    network.close()


def test_without_ca_bundle_the_systems_roots_are_trusted(
    start: Start, minted: Minted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(minted.root))
    server = start()
    network = Network(None, "own", 1.0)
    network.trust(server.url)
    assert network.get(server.url).body == b"{}"
    network.close()


# -- proxies ----------------------------------------------------------------------------------


def test_a_proxy_passes_all_of_it_on_one_connection(start: Start, minted: Minted) -> None:
    server = start()
    with Proxy() as proxy:
        network = Network(minted.root, "own", 1.0, by(proxy))
        network.trust(server.url)
        for _ in range(3):
            assert network.get(f"{server.url}/x").body == b"{}"
        assert proxy.asked == [f"127.0.0.1:{server.port}"]
        network.close()


def test_an_ipv6_address_is_asked_for_in_brackets(start: Start, ask: Ask) -> None:
    server = start(host="::1")
    with Proxy() as proxy:
        assert ask(server.url, by(proxy)) == b"{}"
        assert proxy.asked == [f"[::1]:{server.port}"]


def test_a_proxy_that_wants_to_know_who_it_is(start: Start, ask: Ask, tmp_path: Path) -> None:
    server = start()
    file = tmp_path / "password"
    file.write_text("päss:word\n")
    with Proxy(pair="certd:päss:word") as proxy:
        kept = SecretReference("file", file)
        assert ask(server.url, by(proxy, user="certd", password=kept)) == b"{}"
        file.write_text("another\n")
        with pytest.raises(Problem, match="does not take the user and password") as caught:
            ask(server.url, by(proxy, user="certd", password=kept))
        assert "another" not in str(caught.value)
        assert caught.value.next == f"correct the user in proxy, or proxy_password, in {TABLE}"
        file.unlink()
        with pytest.raises(Problem, match=r"was not fetched.*No such file"):
            ask(server.url, by(proxy, user="certd", password=kept))
        proxy.scheme = "Negotiate"
        with pytest.raises(Problem, match="by other means than Basic"):
            ask(server.url, by(proxy, user="certd", password=plain_password("x")))
    assert proxy.passed == 1


@pytest.mark.parametrize(
    ("answer", "why", "next"),
    [
        pytest.param(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "its proxy {proxy} wants to know who we are (HTTP 407)",
            'write proxy = "http://USER@{proxy}" and proxy_password in [ca.own]',
            id="407",
        ),
        pytest.param(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever",
            "its proxy {proxy} does not let us through to {ca} (HTTP 403)",
            "have it let through to there, or correct proxy in [ca.own]",
            id="403",
        ),
        pytest.param(
            b"HTTP/1.0 503 Service Unavailable\r\n\r\n",
            "does not let us through to {ca} (HTTP 503)",
            "have it let through",
            id="503",
        ),
        pytest.param(
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "its proxy {proxy} cannot be used: its answer is not HTTP",
            "proxy in [ca.own] must be an HTTP proxy",
            id="no proxy",
        ),
        pytest.param(
            b"", "closed the connection without an answer", "must be an HTTP proxy", id="hangs up"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
            "cannot be used: it hung up in the middle",
            "must be an HTTP proxy",
            id="endless",
        ),
        pytest.param(
            None, "its proxy {proxy} did not answer in time", "check proxy in [ca.own]", id="silent"
        ),
    ],
)
def test_a_proxy_that_does_not_let_it_through(
    answer: bytes | None, why: str, next: str, ask: Ask
) -> None:
    with Proxy(answer=answer) as proxy:
        names = {"proxy": f"127.0.0.1:{proxy.port}", "ca": "127.0.0.1:443"}
        with pytest.raises(Problem) as caught:
            ask("https://127.0.0.1/dir", by(proxy))
        assert why.format(**names) in caught.value.why
        assert next.format(**names) in caught.value.next
        assert caught.value.status is None
        assert caught.value.transient


def test_a_proxy_that_is_not_there(ask: Ask, free_port: Callable[[], int]) -> None:
    port = free_port()
    with pytest.raises(Problem, match=rf"127.0.0.1:{port} cannot be reached \(Connection refused"):
        ask("https://127.0.0.1/dir", by(port))


def test_a_proxy_that_listens_and_takes_nobody(ask: Ask) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with pytest.raises(Problem, match=r"cannot be reached \(no connection in time\)"):
            ask("https://127.0.0.1/dir", by(port))


def test_what_it_leads_to_is_checked_like_anything_else(
    start: Start, ask: Ask, tmp_path: Path
) -> None:
    stranger = start(mint(tmp_path / "stranger"))
    with Proxy() as proxy, pytest.raises(Problem, match="not trusted") as caught:
        ask(stranger.url, by(proxy))
    assert caught.value.untrusted


def test_the_environments_proxy_is_not_gone_by_and_that_is_told(
    start: Start, ask: Ask, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    with Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert ask(server.url, Route()) == b"{}"
        with pytest.raises(Problem) as caught:
            ask(f"https://127.0.0.1:{free_port()}/", Route())
        assert not proxy.clients
    assert caught.value.next == (
        "if the proxy of HTTPS_PROXY is needed to get there, write it as proxy in [ca.own]"
    )


# -- the address to ask from -------------------------------------------------------------------


def test_it_asks_from_the_address_that_it_is_told(start: Start, ask: Ask) -> None:
    server, six = start(), start(host="::1")
    assert ask(server.url, Route(source="127.0.0.2")) == b"{}"
    assert ask(six.url, Route(source="::1")) == b"{}"
    assert (server.clients, six.clients) == (["127.0.0.2"], ["::1"])
    with Proxy() as proxy:
        assert ask(server.url, by(proxy, source="127.0.0.3")) == b"{}"
        assert proxy.clients == ["127.0.0.3"]


def test_of_a_name_it_asks_the_address_of_the_same_kind(start: Start, ask: Ask) -> None:
    server = start()
    url = server.url.replace("127.0.0.1", "localhost")
    assert ask(url, Route(source="127.0.0.2")) == b"{}"


@pytest.mark.parametrize(
    ("source", "host", "why", "next"),
    [
        pytest.param(
            "192.0.2.7",
            "127.0.0.1",
            "192.0.2.7 cannot be asked from (Cannot assign requested address)",
            "source_address in [ca.own] must be an address of this machine",
            id="another machine's",
        ),
        pytest.param(
            "::1",
            "127.0.0.1",
            "there is no way from ::1 to 127.0.0.1: no IPv6 address is known of it",
            "check source_address in [ca.own], and DNS",
            id="of another kind",
        ),
    ],
)
def test_an_address_to_ask_from_that_is_of_no_use(
    source: str, host: str, why: str, next: str, ask: Ask
) -> None:
    with pytest.raises(Problem) as caught:
        ask(f"https://{host}/", Route(source=source, table=TABLE))
    assert caught.value.why.startswith(why)
    assert caught.value.next == next


# -- versions of TLS ---------------------------------------------------------------------------


def test_the_oldest_tls_is_what_was_asked_for(start: Start, ask: Ask) -> None:
    old, new = start(maximum_version=TLS12), start(minimum_version=TLS13)
    assert ask(old.url, Route()) == ask(new.url, Route()) == ask(new.url, Route(), TLS13) == b"{}"
    with pytest.raises(CertdError, match="no version of TLS that is new enough") as caught:
        ask(old.url, Route(), TLS13)
    assert "lower min_tls in [ca.own]" in caught.value.next
    assert old.asked == 1
