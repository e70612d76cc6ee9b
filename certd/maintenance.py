"""PURE: maintenance windows, ``Sun 02:00-05:00 Europe/Berlin``: when a target may be changed.

Reads no clock. The times are those of the wall clock at the place that is named, so a window
moves with daylight saving time as the people do who agreed on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from certd.errors import ConfigError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(r"(\S+)\s+([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})(?:\s+(\S+))?")
_EXAMPLE = 'write it as "Sun 02:00-05:00 Europe/Berlin", "Mon-Fri 22:00-04:00", "daily 01:00-05:00"'
_AHEAD = 9  # days looked at: a week, and one at each end for places far from Greenwich
_LAST = "24:00"  # the end of a day, as people write it


@dataclass(frozen=True, slots=True)
class Window:
    """``start`` and ``end`` are of the wall clock; an end that is not later is the next day's."""

    days: frozenset[int]  # 0 is Monday
    start: time
    end: time
    zone: ZoneInfo

    def _spans(self, around: datetime) -> Iterator[tuple[datetime, datetime]]:
        """When it is open, in order, from the day before on."""
        today = around.astimezone(self.zone).date()
        for ahead in range(-1, _AHEAD):
            day = today + timedelta(days=ahead)
            if day.weekday() in self.days:
                later = self.end <= self.start
                yield self._at(day, self.start), self._at(day + timedelta(days=later), self.end)

    def _at(self, day: date, wall: time) -> datetime:
        # A time that daylight saving skips is that of before: as much later as the clock was put.
        return datetime.combine(day, wall, self.zone).astimezone(UTC)

    def opens(self, at: datetime) -> datetime:
        """``at`` if it is open then, else when it opens next."""
        return next(max(at, start) for start, end in self._spans(at) if end > max(at, start))


def opens(windows: Iterable[str], at: datetime) -> datetime:
    """The earliest instant from ``at`` on at which one of them is open; ``at`` if there is none."""
    return min((window(text).opens(at) for text in windows), default=at)


@lru_cache(maxsize=256)
def window(text: str) -> Window:
    """Read one: days, times, and a time zone by its name at IANA (UTC where there is none).

    Raises:
        ConfigError: it is none, with what is wrong.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        what, why = f'"{text}" is no maintenance window', "it is days, hh:mm-hh:mm, time zone"
        raise ConfigError(what, why, _EXAMPLE)
    days, start, end, zone = found.groups()
    opening, closing = _time(text, start), _time(text, "00:00" if end == _LAST else end)
    if opening == closing and end != _LAST:
        why = "it would end as it begins"
        raise ConfigError(f'"{text}" is no maintenance window', why, 'write "daily 00:00-24:00"')
    return Window(_days(text, days), opening, closing, _zone(text, zone or "UTC"))


def _time(text: str, wall: str) -> time:
    try:
        return time.fromisoformat(wall)
    except ValueError:
        what, why = f'"{text}" is no maintenance window', f"{wall} is no time of a day"
        raise ConfigError(what, why, _EXAMPLE) from None


def _zone(text: str, name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, no name at all, a folder
        what, why = f'"{text}" is no maintenance window', f"there is no time zone {name}"
        raise ConfigError(what, why, _EXAMPLE) from None


def _days(text: str, names: str) -> frozenset[int]:
    if names.lower() == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in names.split(","):
        first, ranged, last = part.partition("-")
        begin, end = _day(text, first), _day(text, last if ranged else first)
        found.update((begin + ahead) % 7 for ahead in range((end - begin) % 7 + 1))
    return frozenset(found)


def _day(text: str, name: str) -> int:
    if name.capitalize() in DAYS:
        return DAYS.index(name.capitalize())
    raise ConfigError(
        f'"{text}" is no maintenance window',
        f'"{name}" is no day: they are {", ".join(DAYS)}, and daily for all',
        _EXAMPLE,
    )
