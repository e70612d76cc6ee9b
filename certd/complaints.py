"""Warnings that strangers can cause, so that nobody fills a disk with them."""

from __future__ import annotations

import logging
import time

SECONDS = 60.0  # at most one line of each kind in this time
KINDS = 1000  # that are remembered: a line too many is better than one that was never written


class Complaints:
    """For one thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._until: dict[tuple[str, str], float] = {}

    def __call__(self, message: str, *arguments: object, about: str = "") -> None:
        """One a minute for each message and each ``about``: so that one hides no other."""
        now, kind = time.monotonic(), (message, about)
        if now < self._until.get(kind, 0.0):
            return
        if len(self._until) >= KINDS:
            self._until.clear()
        self._until[kind] = now + SECONDS
        self._log.warning(message, *arguments)
