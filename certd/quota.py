"""Does what is left of a CA's limits allow an order now? Asked before it is made."""

from __future__ import annotations

import itertools
import logging
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable
from datetime import datetime, timedelta

from certd import budget, ordering
from certd.budget import Limits
from certd.ca.issuer import Issuer
from certd.known import Failure, Lineage, Park
from certd.model import CertificateSpec, Identifier
from certd.store import Store

log = logging.getLogger(__name__)

GONE = timedelta(minutes=5)  # after its time, whoever has not come does not wait any more


class Queue:
    """Who waits for the next tokens of each bucket: the nearest expiry first, then who came first.

    Without it all would come for every token, and all but one in vain.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count()
        self._lines: dict[str, list[tuple[float, int, str]]] = {}  # by bucket: share, arrival, name
        self._waiting: dict[str, tuple[str, float, int, datetime]] = {}  # by name

    def enter(
        self, name: str, key: str, share: float, until: datetime, step: timedelta, now: datetime
    ) -> datetime:
        """When the token for this one is there: ``until`` for the first, each ``step`` one more."""
        with self._lock:
            before = self._leave(name)
            line = self._lines.setdefault(key, [])
            while line and self._waiting[line[0][2]][3] + GONE < now:
                del self._waiting[line.pop(0)[2]]
            kept = before is not None and before[0] == key
            arrival = before[2] if before and kept else next(self._count)
            place = (share, arrival, name)
            at = until + step * bisect_left(line, place)
            insort(line, place)
            self._waiting[name] = (key, share, arrival, at)
            return at

    def leave(self, name: str) -> None:
        with self._lock:
            self._leave(name)

    def _leave(self, name: str) -> tuple[str, float, int, datetime] | None:
        found = self._waiting.pop(name, None)
        if found is not None:
            key, share, arrival, _ = found
            line = self._lines[key]
            del line[bisect_left(line, (share, arrival, name))]
            if not line:
                del self._lines[key]
        return found


class Quota:
    """Of one process. What is left is in the store, and who waits for it is here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue = Queue()

    def held(
        self,
        spec: CertificateSpec,
        lineage: Lineage,
        client: Issuer,
        limits: Limits,
        now: datetime,
    ) -> bool:
        """Take what an order needs; True: there is not enough, and it is written down until when.

        Where the certificate expires before the limit allows another, or there is none, the next
        CA of the list is asked at once.
        """
        current = lineage.current
        facts = current.certificate if current else None
        needs = budget.needs(
            client.directory_url,
            spec.identifiers,
            limits,
            # To a CA that did not issue what is there, it is a new certificate.
            renewal=current is not None
            and current.issued_at(client.name, client.directory_url)
            and set(current.certificate.identifiers) == set(spec.identifiers),
            # Without limits the CA need not be asked whether it would take it.
            replaces=limits.renewals_exempt and bool(ordering.replaced(spec, client, current, now)),
        )
        left = facts.not_after - now if facts else None
        lifetime = facts.not_after - facts.not_before if facts else None
        share = budget.reserve(left, lifetime)
        lack = self._store.budgets.take(needs, share, now)
        if lack is None:
            self._queue.leave(spec.name)
            return False
        key, until = lack
        need = needs[key]
        why = f"{client.name} allows {need.limit} of {need.what}"
        # The first of the list may be worth waiting for; the others are asked in its place.
        if len(spec.cas) > 1 and (
            client.name != spec.cas[0] or left is None or until - now >= left
        ):
            failure = Failure(f"{client.name} is not asked before {until:%F %H:%MZ}", why, "", now)
            self._store.parks.keep(spec.name, client.name, Park(until, failure))
            log.warning("%s: %s: going on to the next CA", spec.name, why)
        else:
            step = timedelta(0) if need.looks else need.limit.period / need.limit.count
            until = self._queue.enter(spec.name, key, share, until, step, now)
            self._store.lineages.hold(spec.name, until, why)
            log.info("%s: %s: waiting until %s", spec.name, why, f"{until:%F %TZ}")
        return True


def count_failures(
    identifiers: Iterable[Identifier], directory: str, limits: Limits, store: Store, now: datetime
) -> None:
    """The CA could not validate these names: it allows only so many of that."""
    if limits.failures:
        for identifier in identifiers:
            key = budget.failures_key(directory, identifier)
            store.budgets.spend(key, limits.failures, now)
