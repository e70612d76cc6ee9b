"""Where challenges are shown to a CA, and how all of it is taken away again."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol

from certd.ca.resources import CAChallenge
from certd.errors import ChallengeError
from certd.failpoint import failpoint
from certd.model import Identifier
from certd.store import Store

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Where a key authorization is shown to the CA: a responder or a webroot."""

    def publish(self, host: Identifier, challenge: CAChallenge) -> None: ...

    def withdraw(self, token: str) -> None: ...

    def check(
        self, name: str, ca: str, host: Identifier, challenge: CAChallenge
    ) -> Future[None] | None:
        """Begin to look for it as this CA will; a ChallengeError is what is wrong.

        A record in DNS is published by this as well: it takes its time. ``name`` is the
        certificate's; None: no look is wanted.
        """
        ...

    def give_up(self, name: str) -> None:
        """Take away all records in DNS that are this certificate's, now or when it is possible."""
        ...

    def patience(self, name: str) -> float:
        """Seconds that its records in DNS may take to be seen."""
        ...


def clean_up(
    name: str, store: Store, publisher: Publisher, published: Iterable[str] | None = None
) -> None:
    """Withdraw every token that the journal lists for this certificate.

    ``published`` is what it lists, where that is known.
    """
    if published is None:
        publisher.give_up(name)
        published = store.tokens.published(name)
    elif published:
        publisher.give_up(name)
    if not published:
        return
    for token in published:
        try:
            publisher.withdraw(token)
        except ChallengeError as error:  # what came before it matters more
            log.warning("%s: a token could not be withdrawn: %s", name, error)
    store.tokens.withdraw(name)
    failpoint("issue: tokens withdrawn")
