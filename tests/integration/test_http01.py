"""The HTTP-01 responder over real sockets, as a CA and as the rest of the internet use it."""

from __future__ import annotations

import logging
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from certd.challenges.http01 import MAX_LOOKUPS, Responder, open_sockets
from certd.errors import ChallengeError

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
OTHER = "DGyRejmCefe7v4NfDGDKfA-unpublished-but-stored"
KEY_AUTHORIZATION = TOKEN + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
STORED = OTHER + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
DEADLINE = 10.0  # seconds; for what should take milliseconds

Lookup = Callable[[str], str | None]
Address = tuple[str, int]


@contextmanager
def serving(responder: Responder) -> Iterator[Address]:
    sockets = open_sockets([("127.0.0.1", 0)])
    host, port = sockets[0].getsockname()
    responder.start(sockets)
    try:
        yield host, port
    finally:
        responder.stop()


@pytest.fixture
def address() -> Iterator[Address]:
    """Of a responder with one published and one stored token."""
    responder = Responder({OTHER: STORED}.get)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as address:
        yield address


def get(token: str, method: str = "GET") -> bytes:
    return (
        f"{method} /.well-known/acme-challenge/{token} HTTP/1.1\r\n"
        "Host: www.example.com\r\nUser-Agent: test\r\n\r\n"
    ).encode()


def answer(address: Address, request: bytes) -> bytes:
    with socket.create_connection(address, timeout=DEADLINE) as sock:
        sock.sendall(request)
        return rest(sock)


def rest(sock: socket.socket) -> bytes:
    sock.settimeout(DEADLINE)
    received = b""
    while data := sock.recv(4096):
        received += data
    return received


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize(("token", "body"), [(TOKEN, KEY_AUTHORIZATION), (OTHER, STORED)])
def test_a_published_or_stored_token_gets_its_key_authorization(
    address: Address, token: str, body: str
) -> None:
    head, _, content = answer(address, get(token)).partition(b"\r\n\r\n")

    assert content == body.encode()
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/octet-stream",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]


def test_head_is_the_same_without_the_body(address: Address) -> None:
    whole = answer(address, get(TOKEN))

    assert answer(address, get(TOKEN, "HEAD")) == whole.removesuffix(KEY_AUTHORIZATION.encode())


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(get("A" * 43), id="an unknown token"),
        pytest.param(get("A" * 21), id="too short a token"),
        pytest.param(get("A" * 129), id="too long a token"),
        pytest.param(get(TOKEN + "?a=b"), id="a query"),
        pytest.param(get(TOKEN + "/"), id="a path below"),
        pytest.param(get("../../" + TOKEN), id="a way up"),
        pytest.param(get(TOKEN, "POST"), id="another method"),
        pytest.param(get(TOKEN).replace(b"HTTP/1.1", b"HTTP/2.0"), id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="the root"),
        pytest.param(b"\r\n\r\n", id="nothing"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", id="TLS"),
        pytest.param(get("A" * 43, "HEAD"), id="HEAD"),
    ],
)
def test_everything_else_gets_the_same_bytes(address: Address, request_: bytes) -> None:
    assert answer(address, request_) == NOT_FOUND


def test_a_request_may_come_in_pieces(address: Address) -> None:
    with socket.create_connection(address, timeout=DEADLINE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in get(TOKEN):
            sock.sendall(bytes([byte]))
        assert rest(sock).endswith(KEY_AUTHORIZATION.encode())


def test_a_request_that_never_ends_is_refused(address: Address) -> None:
    with socket.create_connection(address, timeout=DEADLINE) as sock:
        sock.sendall(get(TOKEN)[:-2] + b"X: " + b"a" * 9000)
        with suppress(ConnectionResetError):  # the kernel's way to say that not all was read
            assert rest(sock) == NOT_FOUND


def test_a_withdrawn_token_is_unknown_and_the_served_one_was_told() -> None:
    served: list[str] = []
    responder = Responder(lambda token: None, served.append)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as address:
        answer(address, get(TOKEN, "HEAD"))
        assert answer(address, get(TOKEN)).endswith(KEY_AUTHORIZATION.encode())
        responder.withdraw(TOKEN)
        responder.withdraw(TOKEN)

        assert answer(address, get(TOKEN)) == NOT_FOUND
    assert served == [TOKEN]


def test_a_malformed_token_is_not_published() -> None:
    with pytest.raises(ChallengeError, match="not usable") as caught:
        Responder(lambda token: None).publish("../" + TOKEN, KEY_AUTHORIZATION)
    assert TOKEN not in str(caught.value)


def test_the_store_is_asked_off_the_loop_and_only_so_much() -> None:
    go_on = threading.Event()

    def slow(token: str) -> None:
        go_on.wait(DEADLINE)

    responder = Responder(slow, request_seconds=60)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as address, ExitStack() as stack:
        strangers = [
            stack.enter_context(socket.create_connection(address, timeout=DEADLINE))
            for _ in range(MAX_LOOKUPS + 1)
        ]
        for number, sock in enumerate(strangers):
            sock.sendall(get(f"{number:043}"))

        assert answer(address, get(TOKEN)).endswith(KEY_AUTHORIZATION.encode())
        [one_too_many], _, _ = select.select(strangers, [], [], DEADLINE)
        assert rest(one_too_many) == NOT_FOUND
        strangers.remove(one_too_many)
        go_on.set()
        assert {rest(sock) for sock in strangers} == {NOT_FOUND}


def test_a_failing_store_is_a_404_and_nothing_secret_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(token: str) -> str:
        raise OSError(f"SELECT … WHERE token = '{token}'")

    def fail_too(token: str) -> None:
        raise ValueError(f"{token} is {KEY_AUTHORIZATION}")

    caplog.set_level(logging.DEBUG)
    for responder, token, end in (
        (Responder(fail), OTHER, NOT_FOUND),
        (Responder(fail, fail_too), TOKEN, KEY_AUTHORIZATION.encode()),
    ):
        responder.publish(TOKEN, KEY_AUTHORIZATION)
        with serving(responder) as address:
            assert answer(address, get(token)).endswith(end)

    assert eventually(lambda: "ValueError" in caplog.text)
    assert "OSError" in caplog.text
    assert TOKEN not in caplog.text
    assert OTHER not in caplog.text


def test_a_stalled_connection_is_closed_at_the_deadline() -> None:
    with (
        serving(Responder(lambda token: None, request_seconds=0.2)) as address,
        socket.create_connection(address, timeout=DEADLINE) as silent,
        socket.create_connection(address, timeout=DEADLINE) as slow,
    ):
        slow.sendall(get(TOKEN)[:-1])
        assert rest(slow) == b""
        assert rest(silent) == b""


def test_without_a_word_the_deadline_is_five_seconds() -> None:
    with (
        serving(Responder(lambda token: None)) as address,
        socket.create_connection(address, timeout=DEADLINE) as silent,
    ):
        begun = time.monotonic()
        assert rest(silent) == b""
        assert 4.9 < time.monotonic() - begun < DEADLINE


def test_at_the_bound_the_oldest_makes_room() -> None:
    responder = Responder(lambda token: None, connections=2)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    with serving(responder) as address, ExitStack() as stack:
        first, second = (
            stack.enter_context(socket.create_connection(address, timeout=DEADLINE))
            for _ in range(2)
        )
        assert answer(address, get(TOKEN)).endswith(KEY_AUTHORIZATION.encode())
        assert rest(first) == b""
        second.sendall(get(TOKEN))
        assert rest(second).endswith(KEY_AUTHORIZATION.encode())


STALL = """
import resource, socket, sys
count, port = int(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for number in range(count):
    sock = socket.socket()
    # Several source addresses: the ephemeral ports of one are for the other tests too.
    sock.bind((f"127.0.0.{2 + number % 8}", 0))
    sock.connect(("127.0.0.1", port))
    sock.send(b"GET /")
    kept.append(sock)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def many_files() -> Iterator[int]:
    """As many descriptors as this machine gives, at most enough for 10,000 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 12_000 if hard == resource.RLIM_INFINITY else min(12_000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_10_000_stalled_sockets_do_not_hinder_a_request(many_files: int) -> None:
    """While they come, while they stay, and when all of them go at once."""
    stalled = min(10_000, many_files - 500)
    responder = Responder({OTHER: STORED}.get, request_seconds=60)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    taken: list[float] = []  # seconds of each request

    def ask(address: Address) -> None:
        for token, content in ((TOKEN, KEY_AUTHORIZATION), (OTHER, STORED)):
            start = time.monotonic()
            assert answer(address, get(token)).endswith(content.encode())
            taken.append(time.monotonic() - start)

    with serving(responder) as address:
        arguments = [sys.executable, "-c", STALL, str(stalled), str(address[1])]
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as strangers:
            assert strangers.stdout is not None
            while not select.select([strangers.stdout], [], [], 0)[0]:
                ask(address)
                time.sleep(0.005)
            assert strangers.stdout.readline() == b"ready\n"
            before = len(taken)
            for _ in range(50):
                ask(address)
            strangers.communicate(timeout=DEADLINE)
            ask(address)
    print(f"{stalled} stalled; {before} requests as they came, the slowest {max(taken):.3f} s")
    assert before > 2
    # A CA waits for 10 s, and certd gives a stranger 5.
    assert max(taken) < 2.0


STARVED = f"""
import resource, socket, time
from certd.challenges.http01 import Responder, open_sockets
responder = Responder(lambda token: None, connections=1000)
responder.publish("{TOKEN}", "{KEY_AUTHORIZATION}")
sockets = open_sockets([("127.0.0.1", 0)])
address = sockets[0].getsockname()
responder.start(sockets)
# The limit counts both ends here: the responder runs out while the clients still have some.
clients = [socket.socket() for _ in range(100)]
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
for client in clients[:-1]:
    client.connect(address)
clients[-1].connect(address)
clients[-1].sendall({get(TOKEN)!r})
clients[-1].settimeout({DEADLINE})
assert clients[-1].recv(4096).endswith(b"{KEY_AUTHORIZATION}")
responder.stop()
"""


@pytest.mark.fault(row=54)
def test_it_goes_on_without_file_descriptors() -> None:
    subprocess.run([sys.executable, "-c", STARVED], check=True, timeout=60)


def test_a_hit_is_cheap(address: Address) -> None:
    [thread] = [thread for thread in threading.enumerate() if thread.name == "http01"]
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    request, count = get(TOKEN), 100

    def batch() -> float:
        start = time.clock_gettime(clock)
        for _ in range(count):
            answer(address, request)
        return (time.clock_gettime(clock) - start) / count

    # About 50 µs on a quiet machine; the best of several, for the other tests are noise.
    best = min(batch() for _ in range(10))
    assert best < 150e-6, f"{best * 1e6:.0f} µs of CPU a request"


def test_it_can_be_stopped_twice_and_started_again() -> None:
    responder = Responder({OTHER: STORED}.get)
    responder.stop()
    for _ in range(2):
        with serving(responder) as address:
            assert answer(address, get(OTHER)).endswith(STORED.encode())
        responder.stop()
        with pytest.raises(ConnectionRefusedError):
            answer(address, get(OTHER))
