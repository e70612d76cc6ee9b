"""Who runs the reconciler, and when: a few threads and a queue of due times.

The truth about what is due is in the store; the queue holds only what this process has
leased. A certificate that waits for its CA holds an entry in the queue and no thread.

One that waits within a step (for a CA that is silent, a reload command that sleeps) does
hold a thread, and nobody can take that from it. So a step that lasts is not counted
among the ``threads`` any more: a spare takes its place, and the next step of the same
certificate is for the spares, not for those that the others need.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

from certd.looks import SETTLE, Look

log = logging.getLogger(__name__)

SLOW = 2.0  # seconds after which a step is taken to wait for somebody, and not to work
SPARES = 4  # threads at most in the place of each whose step is slow

_Queue = list[tuple[float, int, str]]  # a heap of (monotonic due time, tie-break, name)


class LocalEngine:
    """Runs ``step(name)`` for each certificate given to ``add`` until it settles (None)."""

    def __init__(
        self, step: Callable[[str], Look | None], threads: int, slow: float = SLOW
    ) -> None:
        """``threads`` are at work at once, and as many as that are free for others while up
        to ``SPARES`` times as many are in steps that have lasted for ``slow`` seconds.
        """
        self._step = step
        self._workers = threads
        self._spares = SPARES * threads
        self._patience = slow
        self._queue: _Queue = []
        self._aside: _Queue = []  # of those in ``_slow``
        self._entry: dict[str, int] = {}  # name -> the one entry that counts
        self._may_hurry: set[str] = set()
        self._hurried: set[str] = set()
        self._running: dict[str, float] = {}  # name -> monotonic time since when
        self._anew: set[str] = set()  # leased again before the step that gave it back has ended
        self._slow: set[str] = set()  # names whose step lasts, or whose last one did
        self._numbers = itertools.count()
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # the queues, for the threads
        self._settled = threading.Condition(lock)  # a certificate, for who waits for it
        self._begun = threading.Condition(lock)  # a step, for who looks out for slow ones
        self._stopping = False
        self._watched = math.inf  # until when a thread waits at the clock
        self._looking_out = False  # whether steps are looked at without being told of one
        self._threads = [self._thread() for _ in range(threads)]
        self._lookout = threading.Thread(target=self._look_out, name="engine-slow", daemon=True)

    def start(self) -> None:
        for thread in [*self._threads, self._lookout]:
            thread.start()

    def add(self, names: Iterable[str]) -> None:
        """Take on certificates that this process has just leased."""
        with self._changed:
            for name in names:
                if name in self._running:
                    self._anew.add(name)
                else:
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
        with self._changed:
            threads = [*self._threads, self._lookout]
        return all(thread.is_alive() for thread in threads)

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
            self._begun.notify_all()
            threads = [*self._threads, self._lookout]
        deadline = time.monotonic() + seconds
        for thread in threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _put(self, name: str, seconds: float) -> None:
        """Queue it, in place of the entry that it may have."""
        number = next(self._numbers)
        self._entry[name] = number
        self._may_hurry.discard(name)
        queue = self._aside if name in self._slow else self._queue
        heapq.heappush(queue, (time.monotonic() + seconds, number, name))
        if queue is self._aside:
            self._staff()

    def _next(self) -> str | None:
        """Wait for the next certificate that is due; None when this thread is not needed."""
        with self._changed:
            while not self._stopping:
                if len(self._threads) > self._needed():
                    self._threads.remove(threading.current_thread())
                    self._changed.notify()  # what it was woken for is for somebody else
                    break
                due = math.inf
                for queue in self._open():
                    while queue and self._entry.get(queue[0][2]) != queue[0][1]:
                        heapq.heappop(queue)  # superseded by a later entry
                    if queue and queue[0][0] <= time.monotonic():
                        return self._take(queue)
                    if queue:
                        due = min(due, queue[0][0])
                self._rest(due)
            return None

    def _open(self) -> list[_Queue]:
        """The queues from which a step may begin now, the ordinary one first."""
        slow = self._slow_steps()
        queues = []
        if len(self._running) - min(slow, self._spares) < self._workers:
            queues.append(self._queue)
        if slow < self._spares:
            queues.append(self._aside)
        return queues

    def _take(self, queue: _Queue) -> str:
        """Begin with the first of this queue."""
        _, _, name = heapq.heappop(queue)
        del self._entry[name]
        self._may_hurry.discard(name)
        self._running[name] = time.monotonic()
        if not self._looking_out:
            self._begun.notify()
        if self._queue or self._aside:
            self._changed.notify()  # somebody else is to watch the clock now
        return name

    def _rest(self, due: float) -> None:
        """One thread watches the clock; the others sleep until there is something new."""
        if due >= self._watched:
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
                lasted = time.monotonic() - self._running.pop(name)
                if lasted < self._patience or look is None:
                    self._slow.discard(name)
                else:
                    self._slow.add(name)
                hurried = name in self._hurried
                self._hurried.discard(name)
                if name in self._anew:
                    self._anew.discard(name)
                    look = Look(0.0)
                if look is None:
                    self._settled.notify_all()
                    continue
                hurried = hurried and look.hurry
                self._put(name, SETTLE if hurried else look.seconds)
                if look.hurry and not hurried:
                    self._may_hurry.add(name)
                self._changed.notify()

    # -- steps that last -------------------------------------------------------------------

    def _slow_steps(self) -> int:
        return len(self._running.keys() & self._slow) if self._slow else 0

    def _needed(self) -> int:
        """Threads: those for the others, and those that are slow or about to be."""
        return self._workers + min(self._spares, self._slow_steps() + len(self._aside))

    def _staff(self) -> None:
        while len(self._threads) < self._needed() and not self._stopping:
            thread = self._thread()
            try:
                thread.start()
            except RuntimeError as error:  # the machine's limit: those that are there do it
                log.warning("no more threads: %s", error)
                return
            self._threads.append(thread)

    def _thread(self) -> threading.Thread:
        return threading.Thread(
            target=self._work, name=f"engine-{next(self._numbers)}", daemon=True
        )

    def _look_out(self) -> None:
        """Put a spare in the place of each thread whose step lasts."""
        with self._begun:
            while not self._stopping:
                begun = time.monotonic() - self._patience
                quick = {n: at for n, at in self._running.items() if n not in self._slow}
                late = [name for name, at in quick.items() if at <= begun]
                if late:
                    self._slow.update(late)
                    self._staff()
                    self._changed.notify(len(late))
                    continue
                self._looking_out = bool(quick)
                self._begun.wait(min(quick.values()) - begun if quick else None)
