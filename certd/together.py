"""Several things done at once, in daemon threads: what hangs in one keeps nobody from exiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

MOST = 8  # threads at once, where nothing else is said

T = TypeVar("T")
R = TypeVar("R")


def together(work: Callable[[T], R], items: Sequence[T], most: int = MOST) -> list[R]:
    """The results in order; when all have ended, the first that was raised is raised."""
    if len(items) < 2:
        return [work(item) for item in items]
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}
    todo = iter(range(len(items)))  # taken from under the lock
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                at = next(todo, None)
            if at is None:
                return
            try:
                results[at] = work(items[at])
            except BaseException as error:
                errors[at] = error

    threads = [
        threading.Thread(target=run, name="together", daemon=True)
        for _ in range(min(most, len(items)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in sorted(errors):
        raise errors[at]
    return [results[at] for at in range(len(items))]
