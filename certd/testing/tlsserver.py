"""A TLS server of the standard library, for a machine without nginx.

``python -m certd.testing.tlsserver --port P --fullchain F --key K --pidfile PID`` serves;
``python -m certd.testing.tlsserver --reload PID`` makes it take up changed files, and fails
with the old pair still served if they do not match.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socketserver
import ssl
import sys
import tempfile
from pathlib import Path

from certd.testing.processes import Child, ComponentError, Ports, Stopped
from certd.testing.tls import probe

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncertd\n"
_PATIENCE = 5.0  # seconds for one client


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, fullchain: str, key: str) -> None:
        self._pair = (fullchain, key)
        self.context = _context(*self._pair)
        super().__init__(("127.0.0.1", port), _Handler)

    def reload(self) -> None:
        try:
            self.context = _context(*self._pair)
        except OSError as error:
            print(f"reload failed, the old pair stays: {error}", file=sys.stderr, flush=True)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)  # noqa: S101 - narrows the type
        self.request.settimeout(_PATIENCE)
        # Probes hang up after the handshake, and port scans before it: neither is news.
        with (
            contextlib.suppress(OSError),
            self.server.context.wrap_socket(self.request, server_side=True) as channel,
        ):
            if channel.recv(65536):
                channel.sendall(_ANSWER)


def _context(fullchain: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(fullchain, key)  # refuses a key that does not match
    return context


def serve(port: int, fullchain: str, key: str, pidfile: Path) -> int:
    """Serve until SIGTERM; SIGHUP reads the files again."""
    with _Server(port, fullchain, key) as server:
        signal.signal(signal.SIGHUP, lambda *_: server.reload())
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        # With the paths, for --reload to check the pair where its caller sees the error.
        pidfile.write_text(f"{os.getpid()}\n{fullchain}\n{key}\n")
        server.serve_forever()
    return 0


def reload(pidfile: Path) -> int:
    """Check the pair, then send SIGHUP; 1 if the pair or the server is not there."""
    try:
        pid, fullchain, key = pidfile.read_text().splitlines()
        _context(fullchain, key)
        os.kill(int(pid), signal.SIGHUP)
    except (OSError, ValueError) as error:
        print(f"cannot reload: {error}", file=sys.stderr)
        return 1
    return 0


class TLSServer(Stopped):
    """The server above as a child, with the attributes of ``certd.testing.nginx.Nginx``."""

    def __init__(self, fullchain: Path, key: Path, folder: Path | None = None) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="certd-tlsserver-"))
        self._ports = Ports()
        self.port = self._ports.take()
        self.endpoint = f"127.0.0.1:{self.port}"
        pidfile = self.folder / "tlsserver.pid"
        module = [sys.executable, "-m", "certd.testing.tlsserver"]
        self.reload_argv = [*module, "--reload", str(pidfile)]
        self.log = self.folder / "tlsserver.log"
        files = ("--fullchain", str(fullchain), "--key", str(key), "--pidfile", str(pidfile))
        self._child = Child([*module, "--port", str(self.port), *files], self.log)
        try:
            self._child.wait_until(lambda: pidfile.is_file() and bool(probe(self.port).serial))
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._ports.close()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="certd.testing.tlsserver", description=__doc__)
    parser.add_argument("--reload", type=Path, metavar="PIDFILE")
    parser.add_argument("--port", type=int)
    for option in ("--fullchain", "--key", "--pidfile"):
        parser.add_argument(option)
    chosen = parser.parse_args(argv)
    if chosen.reload is not None:
        return reload(chosen.reload)
    if None in (chosen.port, chosen.fullchain, chosen.key, chosen.pidfile):
        parser.error("--port, --fullchain, --key and --pidfile go together")
    try:
        return serve(chosen.port, chosen.fullchain, chosen.key, Path(chosen.pidfile))
    except OSError as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
