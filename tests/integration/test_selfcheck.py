"""certd's own look at a challenge: real sockets, a DNS server that says what a test wants."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from certd.challenges.http01 import Responder
from certd.challenges.reaching import Way
from certd.challenges.selfcheck import EACH, MAX_LOOKS, SelfCheck
from certd.errors import ChallengeError
from certd.testing import tls
from tests.integration.test_http01 import KEY_AUTHORIZATION, TOKEN, serving

NAME = "www.example.com"
PATH = f"/.well-known/acme-challenge/{TOKEN}"
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (
    len(KEY_AUTHORIZATION),
    KEY_AUTHORIZATION.encode(),
)
SECONDS = 10.0
Answers = Callable[[str], bytes | None]  # by path; None: silence


@pytest.fixture
def self_check() -> Iterator[SelfCheck]:
    check = SelfCheck()
    yield check
    check.stop()


@contextmanager
def server(
    answer: Answers, host: str = "127.0.0.1", port: int = 0, pair: tls.Minted | None = None
) -> Iterator[int]:
    """Answers one request a connection; by TLS with this pair. The port."""
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.fullchain, pair.key)
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
            with sock:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += sock.recv(4096)
                said = answer(request.split(b" ")[1].decode())
                if said is None:
                    over.wait(SECONDS)
                else:
                    sock.sendall(said)

    def accept() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=512) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS)


@contextmanager
def names(known: Mapping[str, list[str] | dns.rcode.Rcode]) -> Iterator[tuple[str, int]]:
    """A DNS server that knows these addresses, or answers so; of the rest it says NXDOMAIN."""

    def answer() -> None:
        while True:
            try:
                data, client = sock.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            query = dns.message.from_wire(data)
            question = query.question[0]
            found = known.get(question.name.to_text(omit_final_dot=True), dns.rcode.NXDOMAIN)
            response = dns.message.make_response(query)
            if isinstance(found, list):
                kind = question.rdtype.name
                fit = [item for item in found if (":" in item) == (kind == "AAAA")]
                if fit:
                    response.answer.append(dns.rrset.from_text(question.name, 1, "IN", kind, *fit))
            else:
                response.set_rcode(found)
            sock.sendto(response.to_wire(), client)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        host, port = sock.getsockname()
        yield host, port
        sock.sendto(b"", (host, port))
        thread.join(SECONDS)


@pytest.fixture
def dns_server() -> Iterator[tuple[str, int]]:
    with names({NAME: ["127.0.0.1"], "other.example.com": ["127.0.0.1"]}) as address:
        yield address


def said(self_check: SelfCheck, way: Way, host: str = NAME) -> str:
    """What is said of a look that goes wrong."""
    look = self_check.begin(way, host, host, TOKEN, KEY_AUTHORIZATION)
    with pytest.raises(ChallengeError) as caught:
        look.result(SECONDS)
    words = str(caught.value)
    assert words.startswith(f"the challenge of {host} is not to be seen, so the CA was not told")
    assert "self_check = false" in words
    assert TOKEN not in words
    return words


def right(self_check: SelfCheck, way: Way, host: str = NAME) -> None:
    self_check.begin(way, host, host, TOKEN, KEY_AUTHORIZATION).result(SECONDS)


def ok(body: bytes, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), fields, body)


def moved(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_the_responder_is_seen_and_is_not_told_that_the_ca_has_asked(
    self_check: SelfCheck, dns_server: tuple[str, int]
) -> None:
    served: list[str] = []
    responder = Responder(lambda token: None, served.append)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as (host, port):
        for asked in (NAME, host):
            right(self_check, Way(dns_server, port), asked)
        right(self_check, Way(None, port), "localhost")
    assert served == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(KEY_AUTHORIZATION.encode() + b"\r\n"), id="a line end after it"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n\r\n" + KEY_AUTHORIZATION.encode(), id="to the connection's end"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(KEY_AUTHORIZATION), KEY_AUTHORIZATION.encode()),
            id="in chunks",
        ),
        pytest.param(RIGHT.replace(b"\r\n", b"\n"), id="lines that end in LF alone"),
    ],
)
def test_what_a_ca_accepts_is_right(
    self_check: SelfCheck, dns_server: tuple[str, int], answer: bytes
) -> None:
    with server(lambda path: answer if path == PATH else b"") as port:
        right(self_check, Way(dns_server, port))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(ok(b"hello"), "answered 200 OK with 'hello'", id="another answer"),
        pytest.param(ok(b""), "answered 200 OK with ''", id="an empty one"),
        pytest.param(
            ok(KEY_AUTHORIZATION.encode() + b"x"), "200 OK with '….9jg46WB3", id="more than it"
        ),
        pytest.param(
            ok(b"\x1b[31m\r\n\xff"), "200 OK with ' [31m  �'", id="what a terminal would obey"
        ),
        pytest.param(ok(b"a" * 10_000_000), "200 OK with 'aaaa", id="a giant"),
        pytest.param(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "answered 404 Not Found; another server answers there: check the name's A and AAAA",
            id="404",
        ),
        pytest.param(
            b"HTTP/1.1 599 No\r\nContent-Length: 0\r\n\r\n", "answered 599; ", id="an odd status"
        ),
        pytest.param(RIGHT.replace(b"200 OK", b"201 Created"), "answered 201", id="not 200"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "answered 101 Switching Protocols",
            id="101",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is no HTTP", id="SSH"),
        pytest.param(b"", "hung up without an answer", id="nothing"),
        pytest.param(b"HTTP/1.1", "hung up within the first line", id="no line"),
        pytest.param(RIGHT[:-5], "answered 200 OK with '….", id="a part of it"),
        pytest.param(None, "no answer within 0.5 s", id="silence"),
        pytest.param(
            moved(f"http://{NAME}:8080/"),
            f"sent on to http://{NAME}:8080/, where a CA does not go; let the server on the way",
            id="to another port",
        ),
        pytest.param(moved("ftp://a.example/"), "sent on to ftp://a.example/,", id="to ftp"),
        pytest.param(moved("https://127.0.0.2/"), "sent on to https://127.0.0.2/,", id="to an IP"),
        pytest.param(moved("http://a@www.example.com/"), "sent on to http://a@", id="with a user"),
        pytest.param(moved("http://[/"), "a CA does not go", id="to no URL"),
        pytest.param(moved("http://a..b/"), "a..b cannot be resolved", id="to no name"),
        pytest.param(moved("http://gone.example/"), "gone.example cannot be", id="into nothing"),
        pytest.param(moved(PATH), "more than 10 redirects", id="in a circle"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "answered 302", id="to nowhere"
        ),
    ],
)
def test_what_a_ca_refuses_is_said(
    self_check: SelfCheck, dns_server: tuple[str, int], answer: bytes | None, words: str
) -> None:
    with server(lambda path: answer) as port:
        told = said(self_check, Way(dns_server, port, seconds=5 if answer is not None else 0.5))
        assert words in told
        assert len(told) < 800


def test_a_redirect_to_https_is_followed_whatever_its_certificate(
    self_check: SelfCheck, dns_server: tuple[str, int], tmp_path: Path
) -> None:
    secure = tls.mint(tmp_path, ["else.example"])
    there = f"https://other.example.com{PATH}?from=http"
    with (
        server(lambda path: RIGHT if path.endswith("?from=http") else b"", pair=secure) as port,
        server(lambda path: moved(there)) as plain,
    ):
        right(self_check, Way(dns_server, plain, port))
    with server(lambda path: moved(there)) as plain:
        told = said(self_check, Way(dns_server, plain, port))
    assert "https://other.example.com/.well-known/acme-challenge/…" in told
    assert "Connection refused" in told


def test_ipv4_is_asked_where_ipv6_gives_no_connection(self_check: SelfCheck) -> None:
    both = {NAME: ["127.0.0.1", "::1"]}
    with names(both) as resolver, server(lambda path: RIGHT) as port:
        right(self_check, Way(resolver, port))
        # A wrong answer by IPv6 is what a CA goes by.
        with server(lambda path: ok(b"other"), "::1", port):
            assert f"at ::1 port {port} answered 200 OK" in said(self_check, Way(resolver, port))


def test_nobody_there_is_said_of_each_address(
    self_check: SelfCheck, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with names({NAME: ["127.0.0.1", "::1"]}) as resolver:
        told = said(self_check, Way(resolver, port))
    assert f"127.0.0.1 port {port}: Connection refused; let port 80 of the name's" in told
    assert f"/…: ::1 port {port}: " in told


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param({}, "says NXDOMAIN; correct the name's A and AAAA records", id="no name"),
        pytest.param({NAME: dns.rcode.SERVFAIL}, "says SERVFAIL", id="a broken zone"),
        pytest.param({NAME: []}, "knows no address of it", id="no address"),
    ],
)
def test_a_name_without_address_is_said(
    self_check: SelfCheck, known: dict[str, list[str] | dns.rcode.Rcode], words: str
) -> None:
    with names(known) as resolver:
        told = said(self_check, Way(resolver, 9))
    assert f"{NAME} cannot be resolved: 127.0.0.1:{resolver[1]} {words}" in told


def test_a_resolver_that_is_silent_is_said(self_check: SelfCheck) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = silent.getsockname()
        told = said(self_check, Way(address, seconds=0.3))
    assert f"looking {NAME} up: no answer within 0.3 s; correct the name's A" in told
    # No such name can be asked for: nothing is sent.
    assert "a..b cannot be resolved" in said(self_check, Way(None), "a..b")


def test_many_silent_names_hold_up_neither_each_other_nor_the_end(
    dns_server: tuple[str, int],
) -> None:
    check, begun = SelfCheck(), time.monotonic()
    with ExitStack() as stack:
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        port = stack.enter_context(server(lambda path: RIGHT))
        silent = Way(dns_server, mute.getsockname()[1], seconds=30)
        # Of one certificate, and of as many as there are places for.
        owners = ["one"] * 2 * MAX_LOOKS + [str(number) for number in range(MAX_LOOKS // EACH - 2)]
        looks = [check.begin(silent, owner, NAME, TOKEN, "other") for owner in owners * EACH]
        right(check, Way(dns_server, port))
        for look in looks[: 2 * MAX_LOOKS]:  # those of one, which are given up
            look.cancel()
        right(check, Way(dns_server, port), "other.example.com")
        check.stop()
        check.stop()
        never = check.begin(Way(dns_server, port), NAME, NAME, TOKEN, KEY_AUTHORIZATION)
    assert all(look.cancelled() for look in (*looks, never))
    assert time.monotonic() - begun < SECONDS


def test_a_dead_zone_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take half a minute to find out that it can be asked in vain."""
    over, asked = threading.Event(), []

    def look_up(name: str, *arguments: object, **more: object) -> list[tuple[object, ...]]:
        asked.append(name)
        if name != NAME:
            over.wait(6 * SECONDS)
            raise OSError("Temporary failure in name resolution")
        return [(2, 1, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr("certd.challenges.resolving.socket.getaddrinfo", look_up)
    monkeypatch.setattr("certd.challenges.resolving.MAX_THREADS", 4 * EACH)
    check = SelfCheck()
    with server(lambda path: RIGHT) as port:
        way, dead = Way(None, port, seconds=0.3), [f"n{number}.example.com" for number in range(99)]
        looks = [check.begin(way, "dead", name, TOKEN, "other") for name in dead]
        right(check, way)
        # Its time is over, and the system still at it: no more threads for it than before.
        assert "no answer within 0.3 s" in str(looks[0].exception(SECONDS))
        right(check, way)
        assert looks[3 * EACH].exception(SECONDS)
        late = check.begin(way, "late", "late.example.com", TOKEN, "other")
        assert not wait([late], 1).done
        assert len(asked) == 4 * EACH + 2
        over.set()
        assert "Temporary failure" in str(late.exception(SECONDS))
        check.stop()


def test_a_resolver_that_hangs_up_is_said(self_check: SelfCheck) -> None:
    """By UDP it says to come by TCP, and there it has nothing to say."""
    with ExitStack() as stack:
        # TCP first: of its ports, others have many, and only for connections of theirs.
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        address = tcp.getsockname()
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(address)

        def answer() -> None:
            for _ in range(2):
                data, client = udp.recvfrom(4096)
                response = dns.message.make_response(dns.message.from_wire(data))
                response.flags |= dns.flags.TC
                udp.sendto(response.to_wire(), client)
            for _ in range(2):
                with tcp.accept()[0] as connection:
                    connection.recv(4096)  # else it would be reset

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert "was asked in vain" in said(self_check, Way(address, 9))
        thread.join(SECONDS)
