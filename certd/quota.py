"""Does what is left of a CA's limits allow an order now? Asked before it is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from certd import budget
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
    others: Sequence[str],
    store: Store,
    now: datetime,
) -> bool:
    """Take what an order needs; True: there is not enough, and it is written down until when.

    ``others``: the CAs of the list that may be asked besides. The next one is asked at once
    where the certificate expires before this one's limit allows another, or there is none.
    """
    facts = lineage.current.certificate if lineage.current else None
    renewal = facts is not None and set(facts.identifiers) == set(spec.identifiers)
    issuer = lineage.current is not None and lineage.current.issued_at(
        client.name, client.directory_url
    )
    needs = budget.needs(
        client.directory_url,
        spec.identifiers,
        limits,
        renewal=renewal,
        # Without limits the CA need not be asked whether it would take it.
        replaces=renewal and issuer and limits.renewals_exempt and client.offers_renewal_info,
    )
    left = facts.not_after - now if facts else None
    lifetime = facts.not_after - facts.not_before if facts else None
    lack = store.budgets.take(needs, budget.reserve(left, lifetime), now)
    if lack is None:
        return False
    need, until = lack
    why = f"{client.name} allows {need.limit} of {need.what}"
    if others and (left is None or until - now >= left):
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
