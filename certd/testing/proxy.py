"""A faulty CA: an HTTPS proxy in front of Pebble that answers, bends, delays and cuts.

A rule is ``act(exchange, forward) -> Reply | None``: it may call ``forward()`` or not,
before or after anything else, and give back any reply; None cuts the connection. So all
faults are written alike: ``forward(); return None`` is a CA that acted and whose reply
was lost.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import socketserver
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certd.testing.exchanges import Act, Exchange, Forward, Reply, kind_of, read_jws
from certd.testing.pebble import RunningPebble
from certd.testing.processes import Ports, Stopped
from certd.testing.tls import mint

SECONDS = 30.0  # for one exchange with Pebble

# Not passed on: they are about one connection, or are made anew.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class _NoPebble(Exception):
    """Pebble did not answer: neither do we."""


@dataclass
class _Rule:
    kind: str | None
    act: Act
    times: int | None
    skip: int


class FaultyCA(Stopped):
    """Stands in front of a Pebble, with its ``http_port`` and DNS, and forwards what no rule takes.

    ``exchanges`` are all so far. What a rule raises is raised again by ``stop``.
    """

    def __init__(self, pebble: RunningPebble, folder: Path) -> None:
        """``folder`` gets the certificates that this is HTTPS with."""
        self.pebble = pebble
        self.http_port = pebble.http_port
        self.tls_port = pebble.tls_port
        self.resolver = pebble.resolver
        self.exchanges: list[Exchange] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        folder.mkdir(parents=True, exist_ok=True)
        minted = mint(folder)
        self.ca_bundle = minted.root
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(minted.fullchain, minted.key)
        self._upstream = ssl.create_default_context(cafile=pebble.ca_bundle)
        self._ports = Ports()
        self._server = _Server(self._ports.take(), self)
        self.origin = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.directory = self.origin + urlsplit(pebble.directory).path
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def on(self, kind: str | None, act: Act, *, times: int | None = None, skip: int = 0) -> None:
        """From now on ``act`` answers requests of this kind (None: all), ``times`` times.

        ``skip`` lets that many through first. Rules are asked in the order in which they
        were made; the first that is not used up answers.
        """
        with self._lock:
            self._rules.append(_Rule(kind, act, times, skip))

    def honest(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def seen(self, kind: str) -> list[Exchange]:
        """All requests of a kind, also those that Pebble refused for their nonce."""
        return [exchange for exchange in list(self.exchanges) if exchange.kind == kind]

    def acted_on(self, kind: str) -> list[Exchange]:
        """Those on which Pebble acted, whether or not its answer was delivered."""
        return [item for item in self.seen(kind) if item.upstream and item.upstream.status < 300]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()
        self._ports.close()
        if self._errors:
            raise self._errors[0]

    # -- for the connections ---------------------------------------------------------------

    def begin(self, method: str, path: str, body: bytes) -> Exchange:
        payload, protected = read_jws(body)
        with self._lock:
            number = len(self.exchanges) + 1
            exchange = Exchange(
                number, method, path, kind_of(path), payload, protected, time.monotonic()
            )
            self.exchanges.append(exchange)
        return exchange

    def decide(self, exchange: Exchange, forward: Forward) -> Reply | None:
        act = self._act_for(exchange.kind)
        try:
            return forward() if act is None else act(exchange, forward)
        except _NoPebble:
            return None
        except Exception as error:
            self._errors.append(error)
            return None

    def _act_for(self, kind: str) -> Act | None:
        with self._lock:
            for rule in self._rules:
                if rule.kind not in (None, kind) or rule.times == 0:
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule.act
        return None

    def upstream(self) -> http.client.HTTPSConnection:
        parts = urlsplit(self.pebble.directory)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=SECONDS, context=self._upstream
        )

    @property
    def context(self) -> ssl.SSLContext:
        return self._context


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread for each connection; the TLS handshake happens in it, not in the listener."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, port: int, faulty: FaultyCA) -> None:
        self.faulty = faulty
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Connection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        # A client that was killed, or that does not trust us, is no news.
        with contextlib.suppress(OSError), request:
            try:
                tls = self.faulty.context.wrap_socket(request, server_side=True)
            finally:
                self._open.discard(request)
            with tls:
                self._open.add(tls)
                try:
                    self.finish_request(tls, client_address)
                finally:
                    self._open.discard(tls)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment for head and body: else each waits for the other side's delayed ACK.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faulty = self.server.faulty
        exchange = faulty.begin(self.command, self.path, body)

        def forward() -> Reply:
            try:
                exchange.upstream = self._forward(body)
            except (OSError, http.client.HTTPException) as error:
                raise _NoPebble from error
            return exchange.upstream

        reply = faulty.decide(exchange, forward)
        if reply is None:
            exchange.answered = time.monotonic()
            self._cut()
            return
        begun = time.monotonic()  # who is answered may act on it before we come to go on
        self._deliver(reply)
        exchange.reply, exchange.answered = reply, begun
        if reply.then is not None:
            reply.then()

    do_GET = do_HEAD = do_POST = _exchange  # noqa: N815 - http.server's names

    def _forward(self, body: bytes) -> Reply:
        # Host as it came: Pebble makes its URLs from it, and checks the JWS's against it.
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
        # A connection each: one kept alive would be dead after a restart of Pebble.
        with contextlib.closing(self.server.faulty.upstream()) as ca:
            ca.request(self.command, self.path, body or None, headers)
            answer = ca.getresponse()
            content = answer.read()
        # Several Link headers become one, which means the same (RFC 9110 section 5.3).
        kept = {key.title() for key in answer.headers if key.lower() not in _HOP}
        joined = {key: ", ".join(answer.headers.get_all(key) or ()) for key in kept}
        return Reply(answer.status, joined, content)

    def _deliver(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.header("Content-Length") is None and reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _cut(self) -> None:
        """A reset, not an orderly end."""
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def log_message(self, format: str, *args: object) -> None:
        pass
