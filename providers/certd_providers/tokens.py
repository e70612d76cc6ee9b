"""Access tokens, kept in memory while they are good: most vendors give them for an hour."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from certd.api import Secret

LEFT = 300.0  # seconds that a token must have left


@dataclass(frozen=True, slots=True)
class Token:
    text: Secret
    until: float  # in seconds since 1970
    project: str | None = None  # that its account belongs to


class Tokens:
    """The one of a provider; used from several threads, of which one fetches it for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._of = b""
        self._used = False

    def get(self, credential: str, fetch: Callable[[], Token]) -> Token:
        """The token of this credential. Raises what ``fetch`` raises, and keeps nothing then."""
        of = hashlib.sha256(credential.encode()).digest()  # the operator may have changed it
        with self._lock:
            kept = self._token if of == self._of else None
            self._used = kept is not None and kept.until - time.time() > LEFT
            if kept is None or not self._used:
                self._token = None
                self._token, self._of = fetch(), of
                return self._token
            return kept

    def refused(self) -> bool:
        """It is not taken (HTTP 401), and forgotten; whether another one may help."""
        with self._lock:
            again = self._used or self._token is None
            self._token, self._used = None, False
            return again
