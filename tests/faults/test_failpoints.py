"""SIGKILL at every failpoint of issuing and deploying, then run again (invariants I1 to I3)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd import x509
from certd.secrets import Secret
from certd.testing.pebble import Pebble
from tests.site import Site

SHARES = 3  # of the sweep, so that it can run in parallel
ENOUGH = 60  # failpoints; the sweep ends at the first run that survives


def _seen(stderr: str) -> str:
    """What the killed process said of where it died."""
    lines = [line for line in stderr.splitlines() if line.startswith("failpoint ")]
    return lines[-1] if lines else ""


def _whole_pair(folder: Path) -> bool:
    """Whether ``current`` is a matching pair, or nothing yet."""
    current = folder / "current"
    if not current.exists():
        return True
    key = Secret((current / "privkey.pem").read_text())
    return x509.pair_matches((current / "fullchain.pem").read_text(), key)


@pytest.fixture
def prepared(pebble: Pebble, tmp_path: Path) -> Site:
    """A site whose tables and account exist, so that each run is about one certificate."""
    site = Site(tmp_path / "prepared", pebble)
    site.certificate("first", "first.example.com").renew()
    del site.tables["certificate.first"]
    return site


def _sweep(share: int) -> Iterator[int]:
    return iter(range(1 + share, ENOUGH, SHARES))


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_failpoint(
    share: int, prepared: Site, pebble: Pebble, tmp_path: Path
) -> None:
    table = []
    for number in _sweep(share):
        site = prepared.copy(tmp_path / str(number))
        site.certificate("www", f"n{number}.example.com", targets=["web"])
        site.disk(path=str(site.folder / "tls"))
        before = len(pebble.ledger())
        killed = site.certd("renew", CERTD_KILL_AT=str(number))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert _whole_pair(site.folder / "tls"), "half a pair is in place"
        site.renew()
        issued = pebble.ledger()[before:]
        entry = site.status()["www"]
        bundle = site.bundle("www")
        table.append((number, _seen(killed.stderr), len(issued)))
        assert bundle is not None
        assert len(issued) == 1, f"issued {len(issued)} times after {_seen(killed.stderr)}"
        assert int(issued[0].serial, 16) == int(bundle.certificate.serial, 16)
        assert x509.pair_matches(bundle.leaf_pem, bundle.key_pem)
        assert entry["state"] == "ok"
        assert entry["targets"][0]["state"] == "verified"
        with site.store() as store:
            assert store.tokens.published("www") == [], "a token was left behind"
    else:
        pytest.fail(f"more than {ENOUGH} failpoints: raise ENOUGH")
    print("\nkilled at                                          certificates issued in all")
    for _, where, count in table:
        print(f"{where:<50} {count}")
    assert len(table) >= 4, "the sweep hardly began"


def test_a_failpoint_by_name(prepared: Site) -> None:
    prepared.certificate("www", "named.example.com")
    killed = prepared.certd("renew", CERTD_KILL_AT="issue: finalized")
    assert _seen(killed.stderr).endswith("issue: finalized")
    prepared.renew()
