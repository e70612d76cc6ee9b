"""The TLS-ALPN-01 responder over real sockets, as a CA and as the rest of the internet use it."""

from __future__ import annotations

import hashlib
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import pytest
from cryptography import x509 as pyca

from certd import x509
from certd.challenges.hello import server_name
from certd.challenges.listening import PortTaken
from certd.challenges.reaching import Way
from certd.challenges.selfcheck import SelfCheck
from certd.challenges.tlsalpn import TLSResponder
from certd.errors import ChallengeError
from certd.model import Identifier
from certd.secrets import Secret
from certd.testing.processes import NotInstalled
from certd.testing.tls import mint
from tests.integration.test_http01 import KEY_AUTHORIZATION, OTHER, STORED, TOKEN, eventually

WWW = Identifier("dns", "www.example.com")
V4 = Identifier("ip", "127.0.0.1")
V6 = Identifier("ip", "::1")
KEPT = Identifier("dns", "stored.example.com")
SECONDS = 10.0


class Store:
    """What other processes have published, and when it was asked for."""

    def __init__(self, known: Mapping[Identifier, str] | None = None) -> None:
        self.known = dict(known or {})
        self.own: set[str] = set()  # what was published here
        self.asked: list[Identifier] = []

    def answer(self, host: Identifier) -> str | None:
        self.asked.append(host)
        return self.known.get(host)

    def tokens(self) -> set[str]:
        return self.own | {answer.partition(".")[0] for answer in self.known.values()}


class Running:
    """A responder at a port of its own."""

    def __init__(self, port: int, store: Store | None = None, **settings: float | int) -> None:
        self.port = port
        self.store = store or Store()
        self.served: list[str] = []
        self.responder = TLSResponder(
            self.store.answer,
            self.store.tokens,
            self.served.append,
            **settings,  # type: ignore[arg-type]
        )

    def publish(self, host: Identifier, token: str = TOKEN, *, elsewhere: bool = False) -> None:
        self.store.own.add(token)
        self.responder.publish(
            host,
            token,
            f"{token}.{KEY_AUTHORIZATION.partition('.')[2]}",
            [("127.0.0.1", self.port)],
            lambda: elsewhere,
        )

    def withdraw(self, token: str = TOKEN) -> None:
        self.responder.withdraw(token)
        self.store.own.discard(token)

    def open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS).close()
        except ConnectionRefusedError:
            return False
        return True


Start = Callable[..., Running]


@pytest.fixture
def start(free_port: Callable[[], int]) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(store: Store | None = None, **settings: float | int) -> Running:
            running = Running(free_port(), store, **settings)
            stack.callback(running.responder.stop)
            return running

        yield start


def handshake(
    port: int,
    host: Identifier | str | None,
    *protocols: str,
) -> bytes:
    """As a CA: the DER of what is presented. An SSLError is how it is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    name = server_name(host) if isinstance(host, Identifier) else host
    with (
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        assert (tls.selected_alpn_protocol(), tls.version()) == ("acme-tls/1", "TLSv1.3")
        leaf = tls.getpeercert(binary_form=True)
        assert leaf is not None
        assert tls.recv(1) == b""  # and that is all
        return leaf


@pytest.mark.parametrize("host", [WWW, V4, V6])
def test_a_ca_gets_the_answer_by_tls_1_3(start: Start, host: Identifier) -> None:
    running = start()
    running.publish(host)
    leaf = handshake(running.port, host, "acme-tls/1")
    assert x509.objection(leaf, host, Secret(KEY_AUTHORIZATION)) == ""
    extensions = pyca.load_der_x509_certificate(leaf).extensions
    proof = extensions.get_extension_for_oid(pyca.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    assert proof.critical
    digest = hashlib.sha256(KEY_AUTHORIZATION.encode()).digest()
    assert proof.value.public_bytes() == b"\x04\x20" + digest
    assert len(extensions) == 2
    assert eventually(lambda: running.served == [TOKEN])


@pytest.mark.parametrize(
    ("host", "protocols", "how"),
    [
        pytest.param("www.example.com", (), "no application protocol", id="no protocol"),
        pytest.param("www.example.com", ("h2",), "no application protocol", id="a browser"),
        pytest.param(
            "www.example.com", ("acme-tls/1", "h2"), "no application protocol", id="two of them"
        ),
        pytest.param("example.com", ("acme-tls/1",), "UNRECOGNIZED_NAME", id="another name"),
        pytest.param("1.in-addr.arpa", ("acme-tls/1",), "UNRECOGNIZED_NAME", id="no address"),
        pytest.param(None, ("acme-tls/1",), "UNRECOGNIZED_NAME", id="no name"),
    ],
)
def test_everybody_else_is_refused_at_the_handshake(
    start: Start, host: str | None, protocols: tuple[str, ...], how: str
) -> None:
    running = start()
    running.publish(WWW)
    with pytest.raises(ssl.SSLError, match=how):
        handshake(running.port, host, *protocols)
    assert running.served == []


@pytest.mark.parametrize("version", ["-tls1_1", "-tls1_2"])
def test_older_tls_is_refused_before_a_certificate(start: Start, version: str) -> None:
    openssl = _openssl()
    running = start()
    running.publish(WWW)
    argv = [openssl, "s_client", "-connect", f"127.0.0.1:{running.port}", "-alpn", "acme-tls/1"]
    argv += ["-servername", WWW.value, version, "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, input="")
    assert done.returncode != 0
    assert "no peer certificate available" in done.stdout
    assert "protocol version" in done.stderr


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x40\x00\x02"]
)
def test_what_is_no_tls_is_sent_away(start: Start, garbage: bytes) -> None:
    running = start()
    running.publish(WWW)
    with socket.create_connection(("127.0.0.1", running.port), timeout=SECONDS) as sock:
        sock.sendall(garbage)
        assert sock.recv(100) == b"\x15\x03\x03\x00\x02\x02\x28"  # handshake_failure
        assert sock.recv(100) == b""


def test_openssl_sees_the_extension(start: Start) -> None:
    openssl = _openssl()
    running = start()
    running.publish(V6)
    argv = [openssl, "s_client", "-connect", f"127.0.0.1:{running.port}", "-alpn", "acme-tls/1"]
    argv += ["-servername", server_name(V6)]
    seen = subprocess.run(argv, capture_output=True, text=True, timeout=30, input="").stdout
    assert "ALPN protocol: acme-tls/1" in seen
    text = subprocess.run(
        [openssl, "x509", "-noout", "-text"], capture_output=True, text=True, input=seen, check=True
    ).stdout
    assert "IP Address:0:0:0:0:0:0:0:1" in text
    proof = text.partition("1.3.6.1.5.5.7.1.31: critical")[2]
    assert proof, text
    assert "prime256v1" in text


def test_it_listens_only_while_something_is_published(start: Start) -> None:
    running = start()
    assert not running.open()
    for _ in range(3):
        running.publish(WWW)
        running.publish(V4, OTHER)
        running.publish(WWW)  # again is no error
        assert running.open()
        running.withdraw(TOKEN)
        handshake(running.port, V4, "acme-tls/1")
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            handshake(running.port, WWW, "acme-tls/1")
        running.withdraw(OTHER)
        running.withdraw(OTHER)
        assert eventually(lambda: not running.open())


def test_what_another_process_published_is_answered_from_the_store(start: Start) -> None:
    running = start(Store({KEPT: STORED}))
    running.publish(WWW)
    leaf = handshake(running.port, KEPT, "acme-tls/1")
    assert x509.objection(leaf, KEPT, Secret(STORED)) == ""
    assert running.served == [OTHER]
    handshake(running.port, WWW, "acme-tls/1")
    assert running.store.asked == [KEPT]  # ours are in memory


def test_it_stays_for_others_that_count_on_it(start: Start) -> None:
    running = start(Store({KEPT: STORED}))
    running.publish(WWW)
    running.withdraw(TOKEN)
    time.sleep(0.2)
    handshake(running.port, KEPT, "acme-tls/1")
    running.store.known.clear()
    assert eventually(lambda: not running.open())


def test_what_another_process_has_ended_is_over_here_too(start: Start) -> None:
    running = start()
    running.publish(WWW)
    running.publish(V4, OTHER)
    running.store.own.discard(TOKEN)
    assert eventually(lambda: not _answered(running, WWW))
    assert _answered(running, V4)
    running.store.own.clear()
    assert eventually(lambda: not running.open())


def test_who_has_the_port_is_asked_and_it_is_taken_over_when_he_goes(start: Start) -> None:
    running = start()
    with socket.create_server(("127.0.0.1", running.port)):
        with pytest.raises(PortTaken) as caught:
            running.publish(WWW)
        said = str(caught.value)
        assert said.startswith("the TLS-ALPN-01 responder cannot listen on 127.0.0.1:")
        assert f"another process has port {running.port}" in said
        assert "ss -ltnp" in said
        assert "acme-tls/1" in said
        running.publish(WWW, elsewhere=True)
    assert eventually(lambda: _answered(running, WWW))


def _answered(running: Running, host: Identifier) -> bool:
    with suppress(OSError):
        return bool(handshake(running.port, host, "acme-tls/1"))
    return False


def test_a_store_that_fails_is_told_without_what_it_said(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Store):
        def answer(self, host: Identifier) -> str | None:
            raise RuntimeError(STORED)

    running = start(Broken())
    running.publish(WWW)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        handshake(running.port, KEPT, "acme-tls/1")
    assert "the store could not be asked for a challenge: RuntimeError" in caplog.text
    assert STORED not in caplog.text


def test_nothing_of_a_challenge_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    running = start(Store({KEPT: STORED}))
    running.publish(WWW)
    handshake(running.port, WWW, "acme-tls/1")
    handshake(running.port, KEPT, "acme-tls/1")
    running.responder.stop()
    for secret in (KEY_AUTHORIZATION, STORED, TOKEN, "PRIVATE KEY"):
        assert secret not in caplog.text


def test_a_malformed_token_opens_nothing(start: Start) -> None:
    running = start()
    with pytest.raises(ChallengeError, match="token"):
        running.publish(WWW, "../x")
    assert not running.open()


def test_a_stalled_client_has_a_deadline(start: Start) -> None:
    running = start(seconds=0.3)
    running.publish(WWW)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port), timeout=SECONDS) as sock:
        sock.sendall(b"\x16\x03\x01")
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert time.monotonic() - begun < SECONDS


def test_many_stalled_clients_keep_no_ca_out(start: Start) -> None:
    running = start(seconds=60.0, connections=200)
    running.publish(WWW)
    with ExitStack() as stack:
        for number in range(600):
            sock = socket.create_connection(("127.0.0.1", running.port), timeout=SECONDS)
            stack.enter_context(sock)
            sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
            if number % 100 == 99:
                handshake(running.port, WWW, "acme-tls/1")
    assert len(running.served) == 6


def test_a_store_that_hangs_holds_up_nobody(start: Start) -> None:
    over = threading.Event()

    class Slow(Store):
        def answer(self, host: Identifier) -> str | None:
            over.wait(SECONDS)
            return None

    running = start(Slow(), seconds=0.5)
    running.publish(WWW)
    with ExitStack() as stack:
        stack.callback(over.set)
        for _ in range(80):
            stack.enter_context(_asking(running.port))
        handshake(running.port, WWW, "acme-tls/1")


@contextmanager
def _asking(port: int) -> Iterator[None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(received, sent, server_hostname="x.example.com").do_handshake()
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as sock:
        sock.sendall(sent.read())
        yield


def test_stop_ends_it_whatever_is_open(start: Start) -> None:
    running = start(Store({KEPT: STORED}))
    running.publish(WWW)
    with socket.create_connection(("127.0.0.1", running.port), timeout=SECONDS) as sock:
        running.responder.stop()
        running.responder.stop()
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert not running.open()


def test_sockets_of_systemd_are_open_for_good(start: Start) -> None:
    running = start()
    running.responder.start([socket.create_server(("127.0.0.1", running.port))])
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        handshake(running.port, WWW, "acme-tls/1")
    running.publish(WWW)
    handshake(running.port, WWW, "acme-tls/1")
    running.withdraw(TOKEN)
    time.sleep(0.2)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        handshake(running.port, WWW, "acme-tls/1")


# certd's own look


@pytest.fixture
def self_check() -> Iterator[SelfCheck]:
    check = SelfCheck()
    yield check
    check.stop()


def look(check: SelfCheck, host: Identifier, port: int, at: str = "127.0.0.1") -> str:
    """What certd says of it; empty: all is well."""
    way = Way(tls_port=port, seconds=3.0)
    error = check.begin_tls(way, "www", host, Secret(KEY_AUTHORIZATION), at).exception(SECONDS)
    assert error is None or isinstance(error, ChallengeError)
    said = str(error or "")
    assert KEY_AUTHORIZATION not in said
    assert TOKEN not in said
    return said


@pytest.mark.parametrize("host", [WWW, V4, V6])
def test_the_own_look_sees_what_a_ca_sees(
    start: Start, self_check: SelfCheck, host: Identifier
) -> None:
    running = start()
    running.publish(host)
    assert look(self_check, host, running.port) == ""
    running.publish(host, OTHER)
    assert "answers another challenge" in look(self_check, host, running.port)
    running.publish(Identifier("dns", "other.example.com"))
    running.withdraw(OTHER)
    assert "unrecognized name" in look(self_check, host, running.port).lower()


def test_the_own_look_tells_who_is_there_instead(
    start: Start, self_check: SelfCheck, tmp_path_factory: pytest.TempPathFactory
) -> None:
    running = start()
    assert "Connection refused" in look(self_check, WWW, running.port)
    pair = mint(tmp_path_factory.mktemp("pair"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.fullchain, pair.key)
    for agrees in (False, True):
        if agrees:
            context.set_alpn_protocols(["acme-tls/1"])
        with _server(context) as port:
            said = look(self_check, WWW, port)
        assert ("no acmeIdentifier" if agrees else "was not agreed on") in said
        assert "pass connections with the ALPN protocol acme-tls/1 on" in said
        assert "self_check = false" in said


@contextmanager
def _server(context: ssl.SSLContext) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock = listener.accept()[0]
            with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
                tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(SECONDS)


def _openssl() -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NotInstalled("openssl", "there is no openssl in PATH", "install openssl")
    return openssl
