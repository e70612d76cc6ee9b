"""A server on a free port of this machine, in a thread: what it answers is the test's."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests.structures import CaseInsensitiveDict


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case, to be asked for in any
    body: bytes
    target: str  # path and query as they came

    @property
    def steps(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.removeprefix("/").split("/"))

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"].startswith("application/json")
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Response:
    status: int
    body: Any = None  # bytes, or what becomes JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Lost(Exception):
    """Raised in place of an answer: the connection ends without one."""


Answer = Callable[[Request], Response]


@contextlib.contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that answers so, to several at once."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body at once: two would wait for each other's acknowledgement
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = CaseInsensitiveDict(
                {name.lower(): value for name, value in self.headers.items()}
            )
            query = dict(parse_qsl(target.query, keep_blank_values=True))
            try:
                path = unquote(target.path)
                response = answer(Request(self.command, path, query, headers, body, self.path))
            except Lost:
                self.close_connection = True
                return
            self._send(response)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def _send(self, response: Response) -> None:
            raw = response.body
            if not isinstance(raw, bytes):
                raw = b"" if raw is None else json.dumps(raw).encode()
            self.send_response(response.status)
            given = {name.lower() for name in response.headers}
            if "content-type" not in given and raw:
                self.send_header("Content-Type", "application/json")
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def forwarded(url: str, request: Request) -> Response:
    """What another server answers to the same."""
    between = ("host", "connection", "content-length", "accept-encoding")
    headers = {name: value for name, value in request.headers.items() if name not in between}
    there = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    with contextlib.closing(there):
        there.request(request.method, request.target, request.body, headers)
        answer = there.getresponse()
        told = {"Content-Type": "text/plain"} | {
            name: answer.headers[name]
            for name in ("Content-Type", "ETag")
            if name in answer.headers
        }
        return Response(answer.status, answer.read(), told)


def own_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """For ``serving``, and the file of the certificate that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(public)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context, folder / "certificate.pem"
