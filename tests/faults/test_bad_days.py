"""A CA that has a bad day: half of all that it is asked ends in 503."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

NAMES = [f"day{number}" for number in range(6)]
OVERLOADED = Reply.problem(503, "serverInternal", "overloaded")


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
