"""A CA that has a bad day: half of all that it is asked ends in 503."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from certd import due
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

NAMES = [f"day{number}" for number in range(6)]
OVERLOADED = Reply.problem(503, "serverInternal", "overloaded")


def test_a_ca_that_is_back_after_expiry_is_asked_soon(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    """The back-off has become daily by then; what is served is worth nothing now."""
    pebble = start_pebble(profiles={"short": 120}, retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca).certificate("www", "www.example.com")
        ca.on("renewal-info", lambda _, __: Reply(404))
        with Driver(site) as driver:
            lineage = driver.attempt("www")
            assert lineage.current is not None
            end = lineage.current.certificate.not_after
            driver.wait(61)
            ca.on("new-order", lambda _, __: OVERLOADED)
            driver.attempt("www")
            while driver.now() < end + timedelta(minutes=5):
                lineage = driver.retry("www")
            assert lineage.retry_at is not None
            assert lineage.failures > len(due.BACKOFF)
            assert lineage.retry_at - driver.now() < timedelta(minutes=2)


@pytest.mark.fault(row=2)
@pytest.mark.parametrize("heard", [True, False], ids=["acted on", "not acted on"])
def test_everything_is_issued_within_the_day_and_once(
    heard: bool, site: Site, faulty: FaultyCA
) -> None:
    """Whether the CA has done what it then answers 503 to, or has not."""
    draw = random.Random(20)

    def overloaded(exchange: Exchange, forward: Forward) -> Reply | None:
        if draw.random() < 0.5:
            return forward()
        if heard:
            forward()
        return OVERLOADED

    faulty.on(None, overloaded)
    for name in NAMES:
        site.certificate(name, f"{name}.example.com")
    site.write()
    with Driver(site) as driver:
        begun = driver.now()
        for name in NAMES:
            lineage = driver.attempt(name)
            while lineage.current is None:
                lineage = driver.retry(name)
        assert driver.now() - begun < timedelta(days=1)
        finalized = faulty.acted_on("finalize")
        assert len({item.path for item in finalized}) == len(NAMES)
        assert [driver.store.lineages.get(name).failure for name in NAMES] == [None] * len(NAMES)
