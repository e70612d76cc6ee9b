"""The daemon is killed at random, over and over, with certificates of minutes (fault 41).

``make soak`` lets it go on for an hour; CERTD_SOAK is the seconds, CERTD_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509 as pyca

from certd.testing import tls
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from certd.testing.tlsserver import TLSServer
from tests.faults import invariants
from tests.faults.invariants import Books
from tests.site import Site

SECONDS = float(os.environ.get("CERTD_SOAK", "25"))
SEED = os.environ.get("CERTD_SEED") or str(random.SystemRandom().randrange(10**6))
# Seconds of each certificate. Who is killed twice in the middle of an order waits a minute,
# as after any failure, and that must fit in between the renewal and the end.
LIFETIME = 60
RENEW_AFTER = 0.35  # of the lifetime
CERTIFICATES = ("www", "mail", "api")
AT_MOST = 60.0  # seconds more, until something was renewed
LIFE = (0.2, 4.0)  # seconds that the daemon is given, at random between these
PAUSE = 0.1  # seconds between two looks at each endpoint


class Watch:
    """Looks at an endpoint all the time, and remembers what must not have been."""

    def __init__(self, server: TLSServer, placeholder: str) -> None:
        self.served: set[str] = set()
        self.wrong: list[str] = []
        self._server = server
        self._placeholder = placeholder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                served = tls.probe(self._server.port)
            except OSError as error:
                self.wrong.append(f"no handshake: {error}")
                continue
            if served.serial == self._placeholder:
                if self.served:
                    self.wrong.append("what was there before the first certificate is back")
                continue
            self.served.add(served.serial)
            leaf = pyca.load_pem_x509_certificate(served.pem.encode())
            if leaf.not_valid_after_utc < datetime.now(UTC):
                self.wrong.append(f"{served.serial} expired at {leaf.not_valid_after_utc}")

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _serve(site: Site, name: str) -> TLSServer:
    """A server that reads where certd will write, with something of its own until then."""
    placeholder = site.folder / name / name / "versions" / "0"
    minted = tls.mint(placeholder, ["localhost"])
    minted.fullchain.rename(placeholder / "fullchain.pem")
    minted.key.rename(placeholder / "privkey.pem")
    current = placeholder.parent.parent / "current"
    current.symlink_to("versions/0")
    folder = site.folder / f"server-{name}"
    folder.mkdir()
    server = TLSServer(current / "fullchain.pem", current / "privkey.pem", folder)
    site.disk(name, reload=list(server.reload_argv), verify=[server.endpoint])
    site.certificate(name, f"{name}.example.com", targets=[name], renew_after=RENEW_AFTER)
    return server


@pytest.mark.fault(row=41)
def test_killed_at_random_it_always_serves_and_never_issues_in_vain(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    print(f"\nCERTD_SEED={SEED}")
    pebble = start_pebble(profiles={"short": LIFETIME}, retry_after=(1, 1))
    books = Books.opened(pebble)
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        # Its windows are for later than we want to see a renewal.
        ca.on("directory", lambda exchange, forward: forward().but(renewalInfo=None))
        site = Site(tmp_path / "site", ca)
        kills, watches = _kill_again_and_again(site, chance)
    seen = sum(len(watch.served) for watch in watches)
    issued = len(books.serials)
    print(f"{kills} kills, {issued} issued, {seen} of them seen served, {books.orders} orders")
    assert [watch.wrong for watch in watches] == [[] for _ in watches]
    versions = [invariants.bundles(site, name) for name in CERTIFICATES]
    serials = sorted(item.certificate.serial for found in versions for item in found)
    assert serials == sorted(books.serials)
    assert len(serials) > len(CERTIFICATES), "nothing was renewed"


def _renewed(watches: list[Watch], over: float) -> bool:
    """Whether one served a second certificate; where kills were unlucky, not for ever."""
    return any(len(watch.served) > 1 for watch in watches) or time.monotonic() > over


def _kill_again_and_again(site: Site, chance: random.Random) -> tuple[int, list[Watch]]:
    """How often, and what was seen meanwhile."""
    servers = {name: _serve(site, name) for name in CERTIFICATES}
    watches = [Watch(server, tls.probe(server.port).serial) for server in servers.values()]
    kills, over = 0, time.monotonic() + SECONDS
    try:
        while time.monotonic() < over or not _renewed(watches, over + AT_MOST):
            with site.start("run") as daemon:
                daemon.wait_until(lambda: (site.state / "daemon.lock").exists())
                time.sleep(chance.uniform(*LIFE))
                assert daemon.kill() == -signal.SIGKILL, daemon.output()
            kills += 1
        site.renew(*CERTIFICATES)  # by name: one that was killed too often has a back-off
        status = site.status()
        invariants.assert_told(status)
        assert {entry["state"] for entry in status.values()} == {"ok"}
    finally:
        for watch in watches:
            watch.stop()
        for server in servers.values():
            server.stop()
    return kills, watches
