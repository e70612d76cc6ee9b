"""Token buckets: what an order takes, what is left to others, and when there is enough again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd.budget import (
    LETS_ENCRYPT,
    NO_LIMITS,
    Limit,
    Need,
    free_at,
    needs,
    reserve,
    taken,
)
from certd.model import Identifier

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIRECTORY = "https://ca.example/dir"


def names(*values: str) -> tuple[Identifier, ...]:
    return tuple(Identifier("dns", value) for value in values)


@pytest.mark.parametrize(
    ("count", "share", "at_once"),
    [
        pytest.param(300, 0.0, 300, id="about to expire"),
        pytest.param(300, 0.1, 270, id="a renewal"),
        pytest.param(300, 0.2, 240, id="a new name"),
        pytest.param(5, 0.2, 5, id="too few to set some aside"),
    ],
)
def test_how_many_there_are_at_once(count: int, share: float, at_once: int) -> None:
    need, full_at, number = Need(Limit(count, 3 * HOUR), "orders"), None, 0
    while (after := taken(full_at, need, share, NOW)) is not None:
        full_at, number = after, number + 1
    assert number == at_once
    assert full_at is not None
    until = free_at(full_at, need, share)
    assert NOW < until <= NOW + need.limit.period / count
    assert taken(full_at, need, share, until) is not None
    assert taken(full_at, need, share, until - timedelta(seconds=1)) is None


@given(st.lists(st.floats(0, 5000), max_size=300), st.integers(1, 30))
def test_no_window_has_more_than_the_limit_and_what_has_filled_up_since(
    pauses: list[float], count: int
) -> None:
    """Whatever the loops: at most ``count``, and one more for each part of the period."""
    need = Need(Limit(count, HOUR), "orders")
    full_at, now, orders = None, NOW, list[datetime]()
    for pause in pauses:
        now += timedelta(seconds=pause)
        if (after := taken(full_at, need, 0.0, now)) is not None:
            full_at = after
            orders.append(now)
    for first, begin in enumerate(orders):
        for last in range(first, len(orders)):
            refilled = (orders[last] - begin) / (HOUR / count)
            assert last - first + 1 <= count + refilled + 1e-6


@pytest.mark.parametrize(
    ("renewal", "replaces", "kinds"),
    [
        pytest.param(False, False, ["domain", "failures", "orders", "same"], id="new names"),
        pytest.param(True, False, ["failures", "same"], id="the same names"),
        pytest.param(True, True, ["failures"], id="as the CA asked"),
    ],
)
def test_what_counts_at_lets_encrypt(renewal: bool, replaces: bool, kinds: list[str]) -> None:
    found = needs(
        DIRECTORY, names("www.example.com"), LETS_ENCRYPT, renewal=renewal, replaces=replaces
    )
    assert sorted(key.split()[0] for key in found) == kinds
    assert all(need.looks == key.startswith("failures") for key, need in found.items())


def test_domains_are_registered_ones() -> None:
    asked = names("a.b.example.co.uk", "example.co.uk", "*.example.com", "x.github.io", "host")
    found = needs(DIRECTORY, asked, LETS_ENCRYPT, renewal=False, replaces=False)
    domains = sorted(key.split()[2] for key in found if key.startswith("domain"))
    assert domains == ["example.co.uk", "example.com", "host", "x.github.io"]


def test_the_same_names_are_the_same_in_any_order() -> None:
    one = needs(DIRECTORY, names("a", "b"), LETS_ENCRYPT, renewal=True, replaces=False)
    two = needs(DIRECTORY, names("b", "a"), LETS_ENCRYPT, renewal=True, replaces=False)
    assert one.keys() == two.keys()


def test_without_limits_nothing_is_needed() -> None:
    assert needs(DIRECTORY, names("a"), NO_LIMITS, renewal=False, replaces=False) == {}


@pytest.mark.parametrize(
    ("left", "share"), [(None, 0.2), (100 * HOUR, 0.15), (20 * HOUR, 0.03), (-HOUR, 0.0)]
)
def test_what_presses_most_may_take_all(left: timedelta | None, share: float) -> None:
    assert reserve(left, 100 * HOUR if left else None) == pytest.approx(share)


def test_of_those_who_wait_what_expires_next_is_first() -> None:
    """And new names are last."""
    need, full_at = Need(Limit(300, 3 * HOUR), "orders"), NOW + 3 * HOUR
    lefts: list[timedelta | None] = [HOUR, 10 * HOUR, 30 * HOUR, 90 * HOUR, None]
    shares = [reserve(left, 90 * HOUR if left else None) for left in lefts]
    waits = [free_at(full_at, need, share) for share in shares]
    assert waits == sorted(waits)
    assert len(set(waits)) == len(waits)


def test_a_limit_is_shown_as_people_say_it() -> None:
    assert str(LETS_ENCRYPT.orders) == "300 within 3 h"
    assert str(LETS_ENCRYPT.same) == "5 within 7 days"
