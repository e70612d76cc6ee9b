"""Which places keep silent, so that not everybody waits there for an answer.

A place is a resource of a CA's directory, such as newOrder, or all other URLs of the CA; or a
DNS server, of which what is asked stands for the URL. It is taken to be mute when a request
was not answered in time, and no other was since that one began: what is silent to one
certificate and answers the others holds up that one only. Of URLs that differ, such as
orders, one by itself says nothing of the others.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LEFT_ALONE = 10.0  # seconds for which a place that keeps silent is not asked
AGAIN = 15.0  # seconds for him who found it so: others shall try it before he does
ENOUGH = 2  # URLs of one place that keep silent, for all of them to be taken to


@dataclass(slots=True)
class _Place:
    answered: float = -math.inf  # monotonic: when it last gave an answer
    silent: set[str] = field(default_factory=set)  # URLs, since then
    asked: float | None = None  # while it is mute: when that was found, or tried again


class Silences:
    """Of one CA, or of DNS servers; shared by all threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()

    def left(self, place: str) -> float:
        """Seconds for which it is to be left alone; 0.0: it may be asked."""
        with self._lock:
            return self._left(self._place(place))

    def begin(self, place: str) -> tuple[float, float]:
        """The time, for ``silent``, and the seconds of ``left``: if there are none, ask now.

        One asks a mute place anew, and meanwhile the others are told to wait.
        """
        with self._lock:
            found = self._place(place)
            left = self._left(found)
            if found.asked is not None and not left:
                found.asked = self._monotonic()
            return self._monotonic(), left

    def answered(self, place: str) -> None:
        with self._lock:
            found = self._place(place)
            found.answered = self._monotonic()
            found.asked = None
            found.silent.clear()

    def silent(self, place: str, url: str, begun: float) -> None:
        """A request to this URL of it, which had ``begun`` then, was not answered in time."""
        with self._lock:
            found = self._place(place)
            if found.answered >= begun:
                return
            if len(found.silent) < ENOUGH:
                found.silent.add(url)
            if url == place or len(found.silent) >= ENOUGH:
                found.asked = self._monotonic()

    def _left(self, place: _Place) -> float:
        if place.asked is None:
            return 0.0
        return max(place.asked + LEFT_ALONE - self._monotonic(), 0.0)

    def _place(self, name: str) -> _Place:
        return self._places.setdefault(name, _Place())
