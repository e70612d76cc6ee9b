"""Certificates with the same names, as RSA beside ECDSA: their orders wait for each other."""

from __future__ import annotations

import threading

from certd.model import Identifier

Names = tuple[str, frozenset[Identifier]]  # of an order at this CA


class Twins:
    """Which certificate orders which names. Shared by all threads.

    CAs give the same order to whoever asks twice, and it can be finalized only once.
    """

    def __init__(self) -> None:
        self._ordering: dict[Names, str] = {}  # the certificate that orders them
        self._ordered: dict[str, Names] = {}  # the same by certificate
        self._lock = threading.Lock()

    def has(self, name: str, names: Names) -> bool:
        """Whether another certificate orders these; if not, this one does from now on."""
        with self._lock:
            # Before the others are asked for: two that have swapped their names would wait
            # for each other.
            if (old := self._ordered.get(name, names)) != names:
                del self._ordered[name], self._ordering[old]
            if self._ordering.setdefault(names, name) != name:
                return True
            self._ordered[name] = names
            return False

    def leave(self, name: str) -> None:
        """Its order is over."""
        with self._lock:
            names = self._ordered.pop(name, None)
            if names is not None:
                del self._ordering[names]
