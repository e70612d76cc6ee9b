"""A real HAProxy that serves certificates of a list, in a folder of its own and without root."""

from __future__ import annotations

from pathlib import Path

from certd.testing.server import Server

_CONFIGURATION = """\
global
    stats socket {folder}/admin.sock mode 600 level admin
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend web
    bind 127.0.0.1:{port} ssl crt-list {crt_list}
    http-request return status 200
"""


class HAProxy(Server):
    """HAProxy. The pair it is started with is the first of its list, served to whoever asks for
    a name that no other of the list has.
    """

    sni = "www.example.com"
    package = "haproxy"
    program = "haproxy"

    def prepare(self) -> None:
        self.socket = self.folder / "admin.sock"
        self.crt_list = self.folder / "list"
        # -W: a master and its worker, as in production.
        common = [str(self.binary), "-f", str(self.configuration)]
        self.argv = [*common, "-W", "-db"]
        self.test_argv = [*common, "-c", "-q"]
        self.reload_argv = []

    def text(self, fullchain: Path, key: Path) -> str:
        first = self.folder / "first.pem"
        first.touch(mode=0o600)
        first.write_text(fullchain.read_text() + key.read_text())
        self.crt_list.write_text(f"{first}\n")
        return _CONFIGURATION.format(folder=self.folder, port=self.port, crt_list=self.crt_list)
