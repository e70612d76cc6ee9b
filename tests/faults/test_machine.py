"""The machine runs out of descriptors, sleeps, or keeps another time (faults 54 and 55)."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.site import Site

LIFETIME = 8  # seconds: the certificate is due after half of it
BRIEF = 8  # seconds of a certificate's life
ASLEEP = 5.0  # seconds; it becomes due meanwhile
AWAKE = 60.0  # seconds after waking in which certd must have looked
ZONES = ["Asia/Tokyo", "America/New_York", "UTC"]


def _version(site: Site) -> int:
    with site.store() as store:
        current = store.lineages.get("www").current
    return current.number if current else 0


@pytest.mark.fault(row=54)
def test_without_descriptors_for_a_while_nothing_is_lost(pebble: Pebble, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", pebble)
    with site.start("run") as daemon:
        daemon.wait_until(lambda: "watching" in daemon.output())
        soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, hard))
        site.certificate("www", "descriptors.example.com", targets=["web"]).disk()
        daemon.send(signal.SIGHUP)
        daemon.wait_until(lambda: "Too many open files" in daemon.output())
        assert daemon.returncode is None
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        daemon.send(signal.SIGHUP)
        daemon.wait_until(lambda: (site.folder / "web" / "www" / "current").exists(), AWAKE)
        daemon.wait_until(lambda: site.status()["www"]["state"] == "ok")
        daemon.send(signal.SIGTERM)
        assert daemon.wait(20) == 0
    assert _version(site) == 1


@pytest.mark.fault(row=55)
def test_what_became_due_while_it_slept_is_done_soon_after_waking(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    """In a zone with daylight saving time, which is none of certd's business."""
    pebble = start_pebble(profiles={"short": LIFETIME}, retry_after=(1, 1))
    site = Site(tmp_path / "site", pebble).certificate("www", "www.example.com")
    with site.start("run", TZ="America/New_York") as daemon:
        daemon.wait_until(lambda: "version 1 issued" in daemon.output())
        daemon.send(signal.SIGSTOP)
        time.sleep(ASLEEP)
        daemon.send(signal.SIGCONT)
        daemon.wait_until(lambda: "version 2 issued" in daemon.output(), AWAKE)
        daemon.send(signal.SIGTERM)
        assert daemon.wait(20) == 0


@pytest.mark.fault(row=8)
def test_a_certificate_that_expired_before_it_was_fetched_is_ordered_anew_at_once(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(profiles={"short": BRIEF}, retry_after=(1, 1))
    site = Site(tmp_path / "site", pebble).certificate("www", "www.example.com")
    assert site.certd("renew", CERTD_KILL_AT="issue: finalized").returncode == -signal.SIGKILL
    time.sleep(BRIEF + 1)
    done = site.certd("renew")
    assert "issued, version" in done.stdout, done.stdout + done.stderr
    orders = [one.order for one in pebble.ledger()]
    # More than two where this machine is slow: so brief a certificate is soon due again.
    assert len(set(orders)) == len(orders) >= 2


@pytest.mark.fault(row=55)
@pytest.mark.parametrize("zone", ZONES)
def test_a_date_means_the_same_in_every_zone(zone: str, site: Site, faulty: FaultyCA) -> None:
    def down(exchange: Exchange, forward: Forward) -> Reply | None:
        at = (datetime.now(UTC) + timedelta(seconds=6)).replace(microsecond=0)
        return Reply(503, {"Retry-After": format_datetime(at, usegmt=True)}, b"down")

    faulty.on("new-order", down, times=1)
    site.renew(TZ=zone)
    first, second, *_ = faulty.seen("new-order")
    # Read as another zone's it would be hours too early or too late.
    assert 3 <= second.at - first.answered < 60
    renew_at = datetime.fromisoformat(site.status()["www"]["renew_at"])
    shown = site.certd("status", "--json", TZ=zone).stdout
    assert f"{renew_at:%Y-%m-%dT%H:%M:%SZ}" in shown
