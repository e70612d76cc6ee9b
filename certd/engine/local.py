"""Who runs the reconciler, and when: a few threads and a queue of due times.

The truth about what is due is in the store; the queue holds only what this process has
leased. A certificate that waits for its CA holds an entry in the queue and no thread.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from certd.issue import SETTLE, Look

log = logging.getLogger(__name__)


class LocalEngine:
    """Runs ``step(name)`` for each certificate given to ``add`` until it settles (None)."""

    def __init__(self, step: Callable[[str], Look | None], threads: int) -> None:
        self._step = step
        self._queue: list[tuple[float, int, str]] = []  # (monotonic due time, tie-break, name)
        self._entry: dict[str, int] = {}  # name -> the one entry that counts
        self._may_hurry: set[str] = set()
        self._hurried: set[str] = set()
        self._running: set[str] = set()
        self._numbers = itertools.count()
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # the queue, for the threads
        self._settled = threading.Condition(lock)  # a certificate, for who waits for it
        self._stopping = False
        self._watched = math.inf  # until when a thread waits at the clock
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def add(self, names: Iterable[str]) -> None:
        """Take on certificates that this process has just leased."""
        with self._changed:
            for name in names:
                self._put(name, 0.0)
            self._changed.notify_all()

    def hurry(self, name: str) -> None:
        """What this certificate waits for has probably happened: look in a moment.

        Only shortens waits that the CA did not ask for.
        """
        with self._changed:
            if name in self._may_hurry:
                self._put(name, SETTLE)
                self._changed.notify()
            elif name in self._running:
                self._hurried.add(name)

    def has(self, name: str) -> bool:
        with self._changed:
            return name in self._entry or name in self._running

    def in_flight(self) -> int:
        with self._changed:
            return len(self._entry) + len(self._running)

    def alive(self) -> bool:
        """False when a thread has died, which must never happen: then restart the process."""
        return all(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> None:
        """Return when a certificate has settled, or after ``seconds``."""
        with self._settled:
            if self._entry or self._running:
                self._settled.wait(seconds)

    def stop(self, seconds: float) -> bool:
        """Begin nothing new; True when all that ran has come to an end within ``seconds``."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _put(self, name: str, seconds: float) -> None:
        """Queue it, in place of the entry that it may have."""
        number = next(self._numbers)
        self._entry[name] = number
        self._may_hurry.discard(name)
        heapq.heappush(self._queue, (time.monotonic() + seconds, number, name))

    def _next(self) -> str | None:
        """Wait for the next certificate that is due; None when it is time to stop."""
        with self._changed:
            while not self._stopping:
                due = None
                if self._queue:
                    due, number, name = self._queue[0]
                    if self._entry.get(name) != number:
                        heapq.heappop(self._queue)  # superseded by a later entry
                        continue
                    if due <= time.monotonic():
                        heapq.heappop(self._queue)
                        del self._entry[name]
                        self._may_hurry.discard(name)
                        self._running.add(name)
                        if self._queue:
                            self._changed.notify()  # somebody else is to watch the clock now
                        return name
                self._rest(due)
            return None

    def _rest(self, due: float | None) -> None:
        """One thread watches the clock; the others sleep until there is something new."""
        if due is None or due >= self._watched:
            self._changed.wait()
            return
        self._watched = due
        self._changed.wait(due - time.monotonic())
        if self._watched == due:
            self._watched = math.inf

    def _work(self) -> None:
        while (name := self._next()) is not None:
            look = self._step(name)
            with self._changed:
                self._running.discard(name)
                hurried = name in self._hurried
                self._hurried.discard(name)
                if look is None:
                    self._settled.notify_all()
                    continue
                hurried = hurried and look.hurry
                self._put(name, SETTLE if hurried else look.seconds)
                if look.hurry and not hurried:
                    self._may_hurry.add(name)
                self._changed.notify()
