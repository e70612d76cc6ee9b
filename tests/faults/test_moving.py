"""A CA that moves, and a CA's name that comes to mean another one.

Of a directory nothing is kept for long; of one CA nothing is taken to another.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site


def _move(site: Site, directory: str, ca_bundle: Path) -> None:
    site.tables["ca.test"] |= {"directory": directory, "ca_bundle": str(ca_bundle)}
    site.write()


def test_an_order_under_way_is_left_behind(
    site: Site, faulty: FaultyCA, pebble: RunningPebble
) -> None:
    _move(site, pebble.directory, pebble.ca_bundle)
    killed = site.certd("renew", CERTD_KILL_AT="issue: order URL is kept")
    assert killed.returncode == -9
    _move(site, faulty.directory, faulty.ca_bundle)
    assert "www: issued, version 1" in site.renew().stdout
    assert len(faulty.acted_on("new-order")) == 1


def test_a_certificate_is_not_replaced_at_a_ca_that_did_not_issue_it(
    site: Site, faulty: FaultyCA, pebble: RunningPebble
) -> None:
    _move(site, pebble.directory, pebble.ca_bundle)
    site.renew()
    _move(site, faulty.directory, faulty.ca_bundle)
    with Driver(site) as driver:
        driver.wait(7 * 24 * 3600)
        driver.attempt("www")
        assert faulty.seen("renewal-info") == []
        assert driver.force("www").current is not None
        [first, *_] = faulty.seen("new-order")
        assert "replaces" not in first.payload
        assert driver.force("www").failure is None
        assert "replaces" in faulty.seen("new-order")[-1].payload
        assert faulty.seen("renewal-info")


@pytest.mark.fault(row=19)
@pytest.mark.parametrize("resource", ["newNonce", "newAccount", "newOrder"])
def test_a_resource_that_has_moved_is_found_at_the_next_attempt(
    resource: str, site: Site, faulty: FaultyCA
) -> None:
    """Not an hour later, when the directory would have been fetched again anyway."""
    moved = f"{faulty.origin}/moved"
    faulty.on("directory", lambda _, forward: forward().but(**{resource: moved}), times=1)
    with Driver(site) as driver:
        lineage = driver.attempt("www")
        if lineage.failure:
            lineage = driver.retry("www")
        assert lineage.failure is None
    assert len(faulty.seen("directory")) == 2
