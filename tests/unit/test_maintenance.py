"""Maintenance windows of targets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certd import maintenance
from certd.errors import ConfigError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2026-11-22 is a Sunday; Berlin is an hour ahead of UTC then, two in summer.
@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("Sun 02:00-05:00 Europe/Berlin", "2026-11-22T00:59", "2026-11-22T01:00"),
        ("Sun 02:00-05:00 Europe/Berlin", "2026-11-22T01:00", "2026-11-22T01:00"),
        ("Sun 02:00-05:00 Europe/Berlin", "2026-11-22T03:59", "2026-11-22T03:59"),
        ("Sun 02:00-05:00 Europe/Berlin", "2026-11-22T04:00", "2026-11-29T01:00"),
        ("Sun 02:00-05:00 Europe/Berlin", "2026-07-01T12:00", "2026-07-05T00:00"),
        ("Sun 02:00-05:00", "2026-11-18T12:00", "2026-11-22T02:00"),
        ("daily 01:00-05:00", "2026-11-22T06:00", "2026-11-23T01:00"),
        ("daily 00:00-24:00", "2026-11-22T23:59", "2026-11-22T23:59"),
        ("Mon-Fri 22:00-04:00", "2026-11-21T03:00", "2026-11-21T03:00"),  # Friday's, on Saturday
        ("Mon-Fri 22:00-04:00", "2026-11-21T04:00", "2026-11-23T22:00"),
        ("Fri-Mon 10:00-11:00", "2026-11-24T09:00", "2026-11-27T10:00"),
        ("sat,SUN 02:00-03:00 UTC", "2026-11-20T00:00", "2026-11-21T02:00"),
        # Far from Greenwich, where it is another day.
        ("Mon 00:00-01:00 Pacific/Kiritimati", "2026-11-22T09:59", "2026-11-22T10:00"),
        ("Sun 23:00-24:00 Pacific/Pago_Pago", "2026-11-23T10:30", "2026-11-23T10:30"),
        # The clock is put forward at 02:00 on 2026-03-29: there is no half past two.
        ("Sun 02:30-05:00 Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:30"),
        ("Sun 02:30-02:45 Europe/Berlin", "2026-03-29T02:00", "2026-04-05T00:30"),
        # And back on 2026-10-25: it opens the first time that it is half past two.
        ("Sun 02:30-05:00 Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:30"),
    ],
)
def test_when_a_window_opens(window: str, now: str, opens: str) -> None:
    assert maintenance.opens([window], at(now)) == at(opens)


def test_of_several_the_one_that_opens_first_counts() -> None:
    windows = ["Sun 02:00-05:00", "Wed 12:00-12:30"]
    assert maintenance.opens(windows, at("2026-11-23T00:00")) == at("2026-11-25T12:00")
    assert maintenance.opens([], at("2026-11-23T00:00")) == at("2026-11-23T00:00")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is days, hh:mm-hh:mm, time zone"),
        ("Sunday 02:00-05:00", '"Sunday" is no day'),
        ("Sun 2:00-5:00", "hh:mm-hh:mm"),
        ("Sun 02:00-25:00", "25:00 is no time"),
        ("Sun 02:00-02:00", "it would end as it begins"),
        ("Sun 02:00-05:00 Europe/Bonn", "there is no time zone Europe/Bonn"),
        ("Sun 02:00-05:00 ../../etc/passwd", "there is no time zone"),
        ("Sun- 02:00-05:00", '"" is no day'),
    ],
)
def test_what_is_no_window(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        maintenance.window(text)
    assert why in refused.value.why
    assert "02:00-05:00" in refused.value.next or "00:00-24:00" in refused.value.next
