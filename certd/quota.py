"""Does what is left of a CA's limits allow an order now? Asked before it is made."""

from __future__ import annotations

import logging
from datetime import datetime

from certd import budget, issue
from certd.budget import Limits
from certd.ca.client import Client
from certd.model import CertificateSpec, Failure, Identifier, Lineage, Park
from certd.store import Store

log = logging.getLogger(__name__)


def held(
    spec: CertificateSpec,
    lineage: Lineage,
    client: Client,
    limits: Limits,
    store: Store,
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
        replaces=limits.renewals_exempt and bool(issue.replaced(spec, client, current, now)),
    )
    left = facts.not_after - now if facts else None
    lifetime = facts.not_after - facts.not_before if facts else None
    lack = store.budgets.take(needs, budget.reserve(left, lifetime), now)
    if lack is None:
        return False
    need, until = lack
    why = f"{client.name} allows {need.limit} of {need.what}"
    # The first of the list may be worth waiting for; the others are asked in its place.
    if len(spec.cas) > 1 and (client.name != spec.cas[0] or left is None or until - now >= left):
        failure = Failure(f"{client.name} is not asked before {until:%F %H:%MZ}", why, "", now)
        store.lineages.park(spec.name, client.name, Park(until, failure))
        log.warning("%s: %s: going on to the next CA", spec.name, why)
    else:
        store.lineages.hold(spec.name, until, why)
        log.info("%s: %s: waiting until %s", spec.name, why, f"{until:%F %TZ}")
    return True


def count_failure(
    identifier: Identifier, directory: str, limits: Limits, store: Store, now: datetime
) -> None:
    """The CA could not validate this name: it allows only so many of these."""
    if limits.failures:
        key = budget.failures_key(directory, identifier)
        store.budgets.spend(key, limits.failures, now)
