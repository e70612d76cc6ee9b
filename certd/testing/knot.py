"""Knot DNS: another server that is changed by RFC 2136, and that refuses in its own way."""

from __future__ import annotations

import base64
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from certd.testing.nameserver import program, serves, txt
from certd.testing.processes import Child, ComponentError, Ports, Stopped

STRANGER = "stranger"  # a key that the server knows and that may change nothing

_SERVER = """\
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
database:
    storage: {folder}
log:
  - target: stderr
    any: info
key:
  - id: {key}
    algorithm: {algorithm}
    secret: {secret}
  - id: {stranger}
    algorithm: {algorithm}
    secret: {secret}
acl:
  - id: txt
    key: {key}
    action: update
    update-type: TXT
template:
  - id: default
    storage: {folder}
    acl: txt
zone:
"""


class Knot(Stopped):
    """Zones on a Knot at ``server`` (``host:port``); ``key`` may change their TXT records.

    Raises:
        NotInstalled: there is no Knot.
        ComponentError: it did not start.
    """

    key = "certd-update"

    def __init__(self, zones: Sequence[str], algorithm: str = "hmac-sha256") -> None:
        binary = program("knotd", "knot")
        # Never below a test's own folder: the path of a Unix socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="certd-knot-"))
        self._ports = Ports()
        port = self._ports.take()
        self.server = f"127.0.0.1:{port}"
        self.algorithm = algorithm
        self.secret = base64.b64encode(secrets.token_bytes(32)).decode()
        text = _SERVER.format(
            port=port,
            folder=self.folder,
            key=self.key,
            algorithm=algorithm,
            secret=self.secret,
            stranger=STRANGER,
        )
        for zone in zones:
            text += f"  - domain: {zone}\n    file: {zone}.zone\n"
            head = f"$ORIGIN {zone}.\n$TTL 0\n@ SOA ns1 hostmaster 1 3600 600 604800 0\n"
            (self.folder / f"{zone}.zone").write_text(f"{head}@ NS ns1\nns1 A 127.0.0.1\n")
        configuration = self.folder / "knot.conf"
        configuration.write_text(text)
        self._child = Child([binary, "-c", configuration], self.folder / "knot.log")
        try:
            self._child.wait_until(lambda: all(serves(self.server, zone) for zone in zones))
        except ComponentError:
            self.stop()
            raise

    def stop(self) -> None:
        self._child.stop()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def values(self, name: str) -> list[str]:
        """The TXT values at this name."""
        return txt(self.server, name)
