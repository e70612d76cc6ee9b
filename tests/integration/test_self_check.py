"""Looking at our own token: the responder itself, and servers that answer otherwise."""

from __future__ import annotations

import datetime
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certd.challenges.http01 import Responder, open_sockets, self_check
from certd.errors import ChallengeError

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
KEY_AUTHORIZATION = f"{TOKEN}.{THUMBPRINT}"
PATH = f"/.well-known/acme-challenge/{TOKEN}"
NAME = "www.certd-test.invalid"  # resolves nowhere: `connect` says where to go
DEADLINE = 10.0  # seconds


def ok(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


Script = Callable[[str], bytes]  # path -> what is sent


@contextmanager
def answering(script: Script, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that sends what the script says; its port."""

    class Scripted(socketserver.StreamRequestHandler):
        timeout = DEADLINE

        def handle(self) -> None:
            path = self.rfile.readline().split()[1].decode()
            while self.rfile.readline().strip():
                pass
            self.wfile.write(script(path))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that leaves early is what some of these tests are about

    with Server(("127.0.0.1", 0), Scripted) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def check(port: int, tls_port: int = 443, deadline: float = DEADLINE) -> None:
    here = ("127.0.0.1", port)
    self_check(NAME, port, TOKEN, KEY_AUTHORIZATION, deadline, here, tls_port=tls_port)


def refused(script: Script, deadline: float = DEADLINE) -> str:
    """What is said of such a server; never a secret."""
    with answering(script) as port, pytest.raises(ChallengeError) as caught:
        check(port, deadline=deadline)
    error = caught.value
    assert error.what == f"http://{NAME}:{port} does not show our HTTP-01 token"
    assert error.next
    for secret in (TOKEN, THUMBPRINT):
        assert secret not in str(error)
        assert secret not in repr(error.__cause__)
    return error.why


def test_our_own_responder_passes() -> None:
    responder = Responder(lambda token: None)
    responder.publish(TOKEN, KEY_AUTHORIZATION)
    sockets = open_sockets([("127.0.0.1", 0)])
    port = sockets[0].getsockname()[1]
    responder.start(sockets)
    try:
        check(port)
        self_check("127.0.0.1", port, TOKEN, KEY_AUTHORIZATION, DEADLINE)
        responder.withdraw(TOKEN)
        with pytest.raises(ChallengeError, match=f"404 at http://{NAME}:{port}"):
            check(port)
    finally:
        responder.stop()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ok(KEY_AUTHORIZATION + "\r\n"), id="a line end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(KEY_AUTHORIZATION), KEY_AUTHORIZATION.encode()),
            id="chunks",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + KEY_AUTHORIZATION.encode(), id="HTTP/1.0"),
    ],
)
def test_what_a_ca_takes_is_taken(answer: bytes) -> None:
    with answering(lambda path: answer) as port:
        check(port)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(
            b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n",
            '404 from server "nginx" at',
            id="404",
        ),
        pytest.param(
            f"HTTP/1.1 500 X\r\nServer: {KEY_AUTHORIZATION} \x1b[31m\r\n\r\n".encode(),
            '500 from server "… ?[31m" at',
            id="a server that repeats the secret",
        ),
        pytest.param(ok("<html>"), "another body of 6 bytes (no content type) at", id="a page"),
        pytest.param(ok(f"{TOKEN}.{'A' * 43}"), "of another ACME account at", id="a rival"),
        pytest.param(ok("x" * 200_000), "another body of 65", id="a flood"),
        pytest.param(
            KEY_AUTHORIZATION.encode(), "did not speak http (BadStatusLine)", id="no HTTP"
        ),
        pytest.param(b"", "did not speak http", id="silence"),
        pytest.param(redirect(""), "leads to nowhere", id="a redirect to nowhere"),
        pytest.param(redirect(f"ftp://a{PATH}"), "leads to ftp://a/.well", id="another scheme"),
        pytest.param(redirect("http://a:8080/"), "leads to http://a:8080/", id="another port"),
        pytest.param(redirect("https://[::1/"), "leads to https://[::1/", id="no URL"),
        pytest.param(redirect(PATH, 303), "303 at", id="a redirect that no CA follows"),
        pytest.param(redirect(PATH), "more than 10 redirects", id="a loop"),
    ],
)
def test_what_came_back_instead_is_told(answer: bytes, why: str) -> None:
    assert why in refused(lambda path: answer)


def test_redirects_are_followed_also_to_https(tmp_path: Path) -> None:
    context = self_signed(tmp_path)

    def secure(path: str) -> bytes:
        return ok(KEY_AUTHORIZATION) if path == "/there?x=1" else ok("wrong path")

    with answering(secure, context) as tls_port:

        def plain(path: str) -> bytes:
            if path == PATH:
                return redirect("/next", 301)
            return redirect(f"https://127.0.0.1:{tls_port}/there?x=1", 308)

        with answering(plain) as port:
            check(port, tls_port)


def test_a_slow_server_does_not_outlast_the_deadline() -> None:
    stop = threading.Event()

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            client, _ = listener.accept()
            with client:
                while not stop.wait(0.02):
                    client.send(b"H")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        start = time.monotonic()
        with pytest.raises(ChallengeError, match="did not answer"):
            check(listener.getsockname()[1], deadline=0.3)
        assert time.monotonic() - start < 3
        stop.set()
        thread.join()


def test_a_refused_connection_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ChallengeError, match=rf"127\.0\.0\.1:{port} refused the connection.*NAT"):
        check(port)


@pytest.mark.parametrize("name", [NAME, "a" * 64 + ".invalid"])
def test_a_name_that_does_not_resolve_is_named(name: str) -> None:
    with pytest.raises(ChallengeError, match=f"{name} does not resolve.*A or AAAA record"):
        self_check(name, 80, TOKEN, KEY_AUTHORIZATION, DEADLINE)


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
