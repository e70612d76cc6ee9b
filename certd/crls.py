"""The CAs' lists of what they have revoked: when one is looked at, and what follows.

A list is fetched once for all certificates that name it. Whatever goes wrong with it is
told and tried again: no order and no target waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NoReturn

from certd import x509
from certd.ca import crl
from certd.ca.clients import route_to
from certd.ca.roots import known_roots
from certd.ca.route import DIRECT
from certd.config import CASettings
from certd.errors import CertdError
from certd.known import KEY_COMPROMISE, Failure, Revocation
from certd.store import Store
from certd.store.crls import DueList, Naming

log = logging.getLogger(__name__)

# Lists are made anew long before their nextUpdate, which is days ahead.
SELDOM = timedelta(days=1)
SOON = timedelta(hours=1)


def look(
    store: Store,
    cas: Mapping[str, CASettings],
    draw: Callable[[], float],
    clock: Callable[[], datetime],
    over: Callable[[], bool],
) -> None:
    """Look at every list that is due, but begin with none once it is ``over``.

    ``draw`` gives a random number in [0, 1).
    """
    unread = store.crls.unread(clock())
    store.crls.keep_urls((name, number, x509.crl_url(leaf)) for name, number, leaf in unread)
    for due in store.crls.due(clock()):
        if over():
            return
        settings = cas.get(due.ca)
        if settings is None or settings.crl:
            _look(due, settings, store, draw(), clock())


def next_look(next_update: datetime, draw: float, now: datetime) -> datetime:
    """When the list says, at least once a day, and never more than once an hour."""
    wait = min(max(next_update - now, SOON), SELDOM)
    return now + wait * (1 + draw / 10)


def _look(
    due: DueList, settings: CASettings | None, store: Store, draw: float, now: datetime
) -> None:
    public = settings is None or settings.public  # of whom nothing is known: the stricter way
    # First, so that another certd leaves it alone meanwhile.
    store.crls.keep(due.url, now + SOON, due.failures)
    try:
        route = route_to(settings) if settings else DIRECT
        der = crl.fetch(due.url, public=public, route=route)
        roots = known_roots(settings.roots if settings else None)
        next_update = _compare(der, due, roots, store, now)
        if next_update <= now:
            raise x509.BadCRL(
                f"the list {due.url} is old", f"it was good until {next_update:%F %H:%MZ}"
            )
    except CertdError as error:
        log.warning("%s", error)
        failures = due.failures + 1
        wait = min(SOON * 2 ** min(due.failures, 5), SELDOM)
        failure = Failure(error.what, error.why, error.next, now)
        store.crls.keep(due.url, now + wait * (1 + draw / 10), failures, failure)
        return
    store.crls.keep(due.url, next_look(next_update, draw, now))


def _compare(der: bytes, due: DueList, roots: x509.Roots, store: Store, now: datetime) -> datetime:
    """Keep which versions are revoked; returns until when the list is good.

    Raises:
        BadCRL: it is not believed for some of those that name it; of the others it is kept.
    """
    naming = store.crls.naming(due.url, now)
    signers: dict[tuple[str, str], list[Naming]] = {}
    for one in naming:
        signers.setdefault(one.signer, []).append(one)
    good, error = [], None
    for several in signers.values():
        leaf, chain = store.crls.pems(several[0].name, several[0].number)
        try:
            serials = {one.serial for one in several}
            issuer = chain or x509.root_of(leaf, roots) or _unknown(due)
            read = x509.read_crl(der, issuer, due.url, serials, now)
        except CertdError as failed:
            error = failed
            continue
        good.append(read.next_update)
        _notice(
            [(one, read.listed[one.serial]) for one in several if one.serial in read.listed],
            store,
            now,
        )
    if error is not None:
        raise error
    return min(good, default=now + SELDOM)


def _unknown(due: DueList) -> NoReturn:
    raise x509.BadCRL(
        f"the list {due.url} is not believed",
        "who signs it is not known here: the chain is empty, for a root has signed the leaf",
        f"name that root by roots in [ca.{due.ca}]",
    )


def _notice(found: list[tuple[Naming, x509.Listed]], store: Store, now: datetime) -> None:
    if not found:
        return
    pins = [
        (one.spki_sha256, one.name, now) for one, said in found if said.reason == KEY_COMPROMISE
    ]
    revoked = [
        Revocation(one.fingerprint, one.name, one.number, said.reason, "ca", now, said.revoked_at)
        for one, said in found
    ]
    store.revocations.noticed(revoked, pins)
    for each in revoked:
        log.error("%s: version %d %s: it is replaced", each.name, each.number, each)
