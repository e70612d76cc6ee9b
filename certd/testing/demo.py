"""The demonstration: Pebble, a real server, the real daemon, one certificate's life.

Pebble behaves as it comes: it rejects 5 % of all nonces and takes its time before it
validates. What is shown is what the endpoint serves, not what certd says of itself.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from certd.errors import CertdError
from certd.testing import tls
from certd.testing.nginx import Nginx
from certd.testing.pebble import Pebble, Settings
from certd.testing.processes import Child
from certd.testing.server import find
from certd.testing.tlsserver import TLSServer

NAMES = ("www.example.com", "example.com")
WIDTH = len("renewal window moved")
PATIENCE = 58.0  # seconds for all of it: Pebble may sleep 15 s before each validation
CONFIGURATION = """\
[certd]
state = "state"

[ca.letsencrypt]
directory = "{directory}"
ca_bundle = "{ca_bundle}"
agree_tos = true

[http]
listen = ["127.0.0.1:{http_port}"]

[target.web]
type = "disk"
path = "tls/{{name}}"
reload = {reload}
verify = ["127.0.0.1:{tls_port}"]

[certificate.www]
names = {names}
targets = ["web"]
"""


class Demo:
    """Runs once; prints a table of what happened, row by row as it happens."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._console = Console(highlight=False)
        self._begun = time.monotonic()

    def run(self) -> int:
        """0 when everything was seen to work, else 1, with the reason printed."""
        self._row("AFTER", "STEP", "SEEN")
        folder = Path(tempfile.mkdtemp(prefix="certd-demo-"))
        try:
            with ExitStack() as parts:
                self._life(folder, parts)
        except CertdError as error:
            self._console.print(f"[red]The demo failed:[/red] {error}", soft_wrap=True)
            return 1
        finally:
            if self._keep:
                self._console.print(f"Everything is in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return 0

    def _life(self, folder: Path, parts: ExitStack) -> None:
        pebble = parts.enter_context(Pebble(Settings(va_nosleep=False), _made(folder / "pebble")))
        self._done("CA started", f"Pebble at {pebble.directory}")
        current = _placeholder(folder / "tls" / "www")
        pair = current / "fullchain.pem", current / "privkey.pem", _made(folder / "server")
        server: Nginx | TLSServer = Nginx(*pair) if find("nginx") else TLSServer(*pair)
        parts.callback(server.stop)
        before = tls.probe(server.port, NAMES[0])
        what = "nginx" if find("nginx") else "a small TLS server of Python's"
        self._done("web server started", f"{what} at {server.endpoint}, self-signed so far")

        path = folder / "certd.toml"
        path.write_text(
            CONFIGURATION.format(
                directory=pebble.directory,
                ca_bundle=pebble.ca_bundle,
                http_port=pebble.http_port,
                reload=json.dumps(list(server.reload_argv)),
                tls_port=server.port,
                names=json.dumps(NAMES),
            )
        )
        certd = [sys.executable, "-m", "certd", "-c", str(path)]
        daemon = parts.enter_context(Child([*certd, "run"], folder / "certd.log"))
        self._done("daemon started", f"certd run, pid {daemon.pid}")

        first = self._served(daemon, server.port, before)
        self._done("issued and deployed", f"HTTP-01 for {', '.join(NAMES)}")
        self._done("served over TLS", f"serial {first.serial}, for {', '.join(first.names)}")

        now = datetime.now(UTC)
        pebble.set_renewal_info(first.pem, now - timedelta(days=2), now - timedelta(days=1))
        daemon.send(signal.SIGHUP)
        self._done(
            "renewal window moved", "the CA now says: renew since yesterday (ARI), SIGHUP: look now"
        )

        second = self._served(daemon, server.port, before, first)
        self._done("renewed and deployed", f"serial {second.serial} is served now")
        issued = [item.serial for item in pebble.ledger()]
        if issued != [first.serial, second.serial]:
            raise CertdError("the CA's ledger is not what was served", ", ".join(issued))
        self._done("nothing issued twice", "the CA's own ledger has just these two")
        status = Child([*certd, "status"], folder / "status.log")
        status.wait(10)
        self._console.print(f"\n[bold]$ certd status[/bold]\n{status.output()}", soft_wrap=True)
        daemon.send(signal.SIGTERM)
        daemon.wait(10)
        self._done("daemon stopped", "by SIGTERM")

    def _served(self, daemon: Child, port: int, *old: tls.Served) -> tls.Served:
        """What the endpoint serves, once that is new.

        Older than the one before, too: for a moment nginx answers with old workers also.
        """
        seen: list[tls.Served] = []
        serials = {served.serial for served in old}

        def changed() -> bool:
            seen[:] = [tls.probe(port, NAMES[0])]
            return seen[0].serial not in serials

        with self._console.status("waiting for the CA to validate the names"):
            daemon.wait_until(changed, max(self._begun + PATIENCE - time.monotonic(), 1.0))
        return seen[0]

    def _done(self, what: str, detail: str) -> None:
        """One row of the table, as it happens."""
        seconds = f"{time.monotonic() - self._begun:.1f} s"
        self._row(seconds, what, detail)

    def _row(self, seconds: str, what: str, detail: str) -> None:
        self._console.print(f"{seconds:>6}  {what:<{WIDTH}}  {detail}", soft_wrap=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _placeholder(folder: Path) -> Path:
    """A self-signed pair where certd will put its own, so that a server can start at all."""
    version = folder / "versions" / "0"
    version.mkdir(parents=True)
    minted = tls.mint(version, NAMES)
    minted.fullchain.rename(version / "fullchain.pem")
    minted.key.rename(version / "privkey.pem")
    (folder / "current").symlink_to("versions/0")
    return folder / "current"
