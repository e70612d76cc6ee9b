"""Being told by hubs when they have something new: one question that waits, for each of them.

Nothing is taken in here: whatever may have changed is due, and the reconciler asks for it. So
there is one way in which certificates come, whether somebody follows or not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from certd.config import Config
from certd.distribution.hub import WAIT, Hub, Hubs
from certd.errors import CertdError
from certd.store import Store

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds until a hub that was away is asked again
ENOUGH = 3  # failures in a row until the certificates are to say so
STOP_SECONDS = 1.0

_Names = tuple[str, ...]


class Followers:
    """All of them, as the configuration of now wants it. One thread at a time calls."""

    def __init__(
        self,
        store: Store,
        wake: Callable[[], None],
        clock: Callable[[], datetime],
        draw: Callable[[], float],
    ) -> None:
        """``wake`` is told that something is due now; ``draw`` gives a random number in [0, 1)."""
        self._store, self._wake, self._clock, self._draw = store, wake, clock, draw
        self._running: list[_Follower] = []

    def follow(self, config: Config) -> None:
        self.stop()
        hubs = Hubs(config.cas)
        wanted = {name: tuple(config.pulled(name)) for name in config.cas}
        self._running = [
            _Follower(hubs(name), names, self._store, self._wake, self._clock, self._draw)
            for name, names in wanted.items()
            if names
        ]
        for one in self._running:
            one.start()

    def stop(self) -> None:
        for one in self._running:
            one.end()
        for one in self._running:
            one.join(STOP_SECONDS)
        self._running = []


class _Follower(threading.Thread):
    def __init__(
        self,
        hub: Hub,
        names: _Names,
        store: Store,
        wake: Callable[[], None],
        clock: Callable[[], datetime],
        draw: Callable[[], float],
    ) -> None:
        super().__init__(name=f"follow-{hub.name}", daemon=True)
        self._hub, self._names, self._store = hub, names, store
        self._wake, self._clock, self._draw = wake, clock, draw
        self._ended = threading.Event()
        self._state = ""  # all that it has for us, when it was asked last
        self._told: Mapping[str, str] | None = None  # and that in full; None: not asked yet
        self._failures = 0

    def end(self) -> None:
        """It begins nothing new; what it waits for in vain is given up."""
        self._ended.set()
        self._hub.hang_up()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._ask()
            except Exception as error:  # the boundary of a job: the next question tries again
                if self._ended.is_set():
                    return
                self._pause(error)

    def _ask(self) -> None:
        # The first question after a failure does not wait: whether the hub is there is the news.
        found = self._hub.list(self._state, 0 if self._failures else WAIT)
        if self._ended.is_set():
            return
        if self._failures >= ENOUGH:
            log.info("%s answers again", self._hub.name)
        if self._failures:  # with what was wrong then, some may have failed that now would not
            get = self._store.lineages.get
            self._due([name for name in self._names if get(name).failure])
        self._failures = 0
        if found is None:
            return
        before = self._here() if self._told is None else self._told
        self._due([one for one in self._names if found.certificates.get(one) != before.get(one)])
        self._state, self._told = found.state, found.certificates

    def _here(self) -> Mapping[str, str]:
        """What is current here; what has failed counts as nothing, so that it is asked for."""
        found = self._store.versions.fingerprints()
        return {
            name: found[name]
            for name in self._names
            if name in found and not self._store.lineages.get(name).failure
        }

    def _due(self, names: list[str] | _Names) -> None:
        if names:
            self._store.lineages.ask_hub(names, self._clock())
            self._wake()

    def _pause(self, error: Exception) -> None:
        if not isinstance(error, CertdError):
            log.exception("this is a bug in certd, please report it")
        self._failures += 1
        if self._failures == ENOUGH:
            log.error("%s cannot be followed, it is tried again: %s", self._hub.name, error)
            try:
                self._due(self._names)  # each shows why, and when it is asked for again
            except CertdError as second:
                log.error("%s: %s", self._hub.name, second)
        pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 9), LONGEST_PAUSE)
        self._ended.wait(pause * (0.5 + self._draw() / 2))
