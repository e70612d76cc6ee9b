"""Time that cannot be trusted: a wrong clock here, or certificates that are due when they come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from certd.preflight import MOST
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

DAY = timedelta(days=1)


def _dated(ahead: timedelta) -> Callable[[Exchange, Forward], Reply]:
    """The CA's clock, beside which ours is ahead."""

    def answer(exchange: Exchange, forward: Forward) -> Reply:
        date = datetime.now(UTC) - ahead
        return forward().with_header("Date", format_datetime(date, usegmt=True))

    return answer


@pytest.mark.fault(row=27)
def test_nothing_is_renewed_because_this_clock_is_ahead(
    site: Site, faulty: FaultyCA, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.on("renewal-info", lambda _, __: Reply(404))
    with Driver(site) as driver:
        driver.attempt("www")
    faulty.on("directory", _dated(70 * DAY))
    with Driver(site) as driver:
        driver.wait(70 * 86400)
        for _ in range(3):
            lineage = driver.attempt("www") if not driver.waits else driver.retry("www")
        assert lineage.failure is not None
        assert "clock is 1680 hours ahead of test's" in lineage.failure.why
        assert lineage.current is not None
        assert lineage.current.number == 1
        assert "this machine's clock is 100800 minutes ahead" in caplog.text
        faulty.honest()
        driver.store.lineages.retry_now("www", driver.now(), force=False)
    assert len(faulty.acted_on("new-order")) == 1


@pytest.mark.fault(row=27)
def test_a_clock_that_is_behind_is_told(
    site: Site, faulty: FaultyCA, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.on("directory", _dated(-365 * DAY))
    with Driver(site) as driver:
        assert driver.attempt("www").current is not None
    assert "this machine's clock is -525600 minutes ahead" in caplog.text


def test_what_is_due_as_it_comes_is_not_issued_without_end(
    start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    """Certificates that a CA dates back by half of their lifetime, say."""
    pebble = start_pebble(profiles={"short": 160 * 3600}, retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy") as faulty:
        site = Site(tmp_path / "site", faulty).certificate("www", "www.example.com")
        faulty.on("renewal-info", lambda _, __: Reply(404))
        with Driver(site) as driver:
            driver.wait(81 * 3600)
            lineage = driver.attempt("www")
            assert lineage.current is not None
            assert lineage.current.number == MOST
            assert lineage.failure is not None
            assert f"it was issued {MOST} times since" in lineage.failure.why
            assert driver.force("www").current != lineage.current  # the operator's word
