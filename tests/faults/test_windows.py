"""A CA whose renewal information is none, or asks for the impossible (faults 24 and 26)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults.driving import Driver
from tests.site import Site

DAY = timedelta(days=1)


def _window(start: datetime, end: datetime, **headers: str) -> Reply:
    window = {"start": start.isoformat(), "end": end.isoformat()}
    return Reply.of(200, {"suggestedWindow": window}, **headers)


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NONE = {
    "500": Reply(500, {}, b"oops"),
    "404": Reply(404, {}, b"not found"),
    "garbage": Reply(200, {}, b"<html>"),
    "it ends before it starts": _window(datetime.now(UTC), datetime.now(UTC) - DAY),
    "it ends as it starts": _window(NOON, NOON),
}


@pytest.fixture
def short_lived(start_pebble: Callable[..., Pebble], tmp_path: Path) -> Iterator[FaultyCA]:
    pebble = start_pebble(profiles={"short": 160 * 3600}, retry_after=(1, 1))
    with FaultyCA(pebble, tmp_path / "proxy-short") as ca:
        yield ca


@pytest.mark.fault(row=24)
@pytest.mark.parametrize("answer", NONE)
def test_without_a_window_the_lifetime_says_when(answer: str, site: Site, faulty: FaultyCA) -> None:
    faulty.on("renewal-info", lambda exchange, forward: NONE[answer])
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
    assert site.status()["www"]["renew_reason"] == "2/3 of the lifetime"
    assert len(faulty.seen("renewal-info")) == 1


@pytest.mark.fault(row=24)
def test_below_ten_days_it_is_half_of_the_lifetime(short_lived: FaultyCA, tmp_path: Path) -> None:
    site = Site(tmp_path / "short", short_lived).certificate("www", "www.example.com")
    short_lived.on("renewal-info", lambda exchange, forward: NONE["404"])
    with Driver(site) as driver:
        assert driver.attempt("www").failure is None
    assert site.status()["www"]["renew_reason"] == "1/2 of the lifetime"


@pytest.mark.fault(row=26)
@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        pytest.param("0", timedelta(seconds=59), timedelta(seconds=61), id="at once"),
        pytest.param("315360000", DAY - timedelta(minutes=1), DAY, id="in ten years"),
        pytest.param("-5", timedelta(seconds=59), timedelta(hours=6), id="before now"),
    ],
)
def test_the_next_look_is_a_minute_to_a_day_away(
    asked: str, least: timedelta, most: timedelta, site: Site, faulty: FaultyCA
) -> None:
    def act(exchange: Exchange, forward: Forward) -> Reply | None:
        return forward().with_header("Retry-After", asked)

    faulty.on("renewal-info", act)
    with Driver(site) as driver:
        begun = driver.now()
        lineage = driver.attempt("www")
        assert lineage.ask_again is not None
        assert begun + least <= lineage.ask_again <= driver.now() + most
    assert len(faulty.seen("renewal-info")) == 1
