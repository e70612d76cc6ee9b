"""PowerDNS with its HTTP API, and zones in a database of its own."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from certd.testing.nameserver import program, serves, txt
from certd.testing.processes import Child, ComponentError, NotInstalled, Ports, Stopped

_SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")

_CONFIGURATION = """\
launch=gsqlite3
gsqlite3-database={folder}/zones.db
gsqlite3-pragma-synchronous=0
socket-dir={folder}
local-address=127.0.0.1
local-port={port}
primary=yes
api=yes
api-key={key}
webserver=yes
webserver-address=127.0.0.1
webserver-port={web}
daemon=no
guardian=no
disable-syslog=yes
security-poll-suffix=
cache-ttl=0
negquery-cache-ttl=0
query-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
"""


class PowerDNS(Stopped):
    """Zones on a PowerDNS at ``server`` (``host:port``), changed by the API at ``url``.

    Raises:
        NotInstalled: there is no PowerDNS, or not the backend for its zones.
        ComponentError: it did not start, or refuses a zone.
    """

    key = "key-of-the-api"

    def __init__(self, zones: Sequence[str]) -> None:
        binary = program("pdns_server", "pdns-server")
        if not _SCHEMA.is_file():
            raise NotInstalled("pdns-backend-sqlite3", f"there is no {_SCHEMA}", "install it")
        # Never below a test's own folder: the path of a Unix socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="certd-powerdns-"))
        self._ports = Ports()
        port, web = self._ports.take(), self._ports.take()
        self.server, self.url = f"127.0.0.1:{port}", f"http://127.0.0.1:{web}"
        database = sqlite3.connect(self.folder / "zones.db")
        database.executescript(_SCHEMA.read_text())
        database.close()
        text = _CONFIGURATION.format(folder=self.folder, port=port, web=web, key=self.key)
        (self.folder / "pdns.conf").write_text(text)
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not for loopback
        argv = [str(binary), f"--config-dir={self.folder}"]
        self._child = Child(argv, self.folder / "pdns.log")
        try:
            self._child.wait_until(lambda: self.call("GET", "").ok)
            for zone in zones:
                self.make(zone)
            self._child.wait_until(lambda: all(serves(self.server, zone) for zone in zones))
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._session.close()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self, zone: str, kind: str = "Native", **more: object) -> None:
        """Another zone, with the fields of the API's Zone."""
        facts = {"name": f"{zone}.", "kind": kind, "nameservers": [f"ns1.{zone}."], **more}
        answer = self.call("POST", "/zones", facts)
        if not answer.ok:
            raise ComponentError(f"pdns refused {zone} ({answer.status_code})", answer.text)

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A request to the API; ``path`` begins after the server's name."""
        url = f"{self.url}/api/v1/servers/localhost{path}"
        headers = {"X-API-Key": self.key}
        return self._session.request(method, url, json=body, headers=headers, timeout=5)

    def output(self) -> str:
        """What it logged last."""
        return self._child.output(100)

    def values(self, name: str) -> list[str]:
        """The TXT values at this name."""
        return txt(self.server, name)
