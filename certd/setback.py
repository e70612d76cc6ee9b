"""What an attempt that failed leaves behind: why, when it is tried again, and at which CA."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certd import due, quota, react
from certd.authorize import OrderFailed
from certd.budget import Limits
from certd.ca.problem import Problem
from certd.consulting import Consulted
from certd.errors import (
    BadCertificate,
    CAError,
    CertdError,
    ChallengeError,
    ExpiredCertificate,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
)
from certd.failpoint import failpoint
from certd.issue import Issuance
from certd.known import Failure, Lineage, Park
from certd.model import CertificateSpec
from certd.react import TRIES, Reaction, Situation, conclude
from certd.store import Store
from certd.store.revocations import CompromisedKey

log = logging.getLogger(__name__)

HOPELESS = timedelta(minutes=90)  # after which an order whose certificate is wrong is given up


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried: ``ca`` is who was asked, ``issuance`` the order that was under way there."""

    spec: CertificateSpec
    ca: str
    limits: Limits  # the CA's
    issuance: Issuance | None
    consulted: Consulted | None = None  # CAA, where the CA has refused for it


def keep(attempt: Attempt, error: CertdError, store: Store, draw: float, now: datetime) -> datetime:
    """Write down why it failed, and when to try again; end the order if it is lost.

    Where it may help, the next CA of the list is asked at once. Returns when this one is
    asked again.
    """
    spec, ca, issuance, caa = attempt.spec, attempt.ca, attempt.issuance, attempt.consulted
    lineage = store.lineages.get(spec.name)
    failures = 1 if _passing_by(error, issuance) else lineage.failures + 1
    left = lineage.current.certificate.not_after - now if lineage.current else None
    allowed = None if caa and not caa.certain else bool(caa and caa.allowed)
    reaction = _reaction(error, failures, left, allowed=allowed)
    late = issuance is not None and _too_late(error, issuance)
    hopeless = issuance is not None and _hopeless(error, issuance, lineage, now)
    lost = reaction.lost or late or hopeless
    if issuance and lost:
        store.orders.end(issuance.order, "failed", str(error), now)
    if isinstance(error, OrderFailed) and issuance:
        directory = issuance.order.directory or ""
        quota.count_failures(error.invalid, directory, attempt.limits, store, now)
    # Whoever began it was killed, and the CA has found nobody to answer it since.
    orphaned = isinstance(error, OrderFailed) and issuance is not None and issuance.inherited
    other = reaction.other_challenge and not orphaned
    used = issuance.authorizations.challenge if issuance else due.challenge(spec, lineage)
    tried = used if other else ""
    following = due.challenge_after(spec, tried)
    # One after the other: only when the last has failed, it is waited.
    wait = timedelta(0) if following else max(due.backoff(failures, left, draw), reaction.wait)
    denied = error if isinstance(error, ProviderDenied) and error.account else None
    if denied and not following:
        wait = max(react.DAILY, wait)
    if (orphaned or late) and failures == 1:
        # No reason to wait. Only once, so that a crash loop is slowed down all the same.
        wait = timedelta(0)
    again = due.NEVER if reaction.stop else now + wait
    failure = _failure(error, reaction, caa, now)
    when = f"at once, by {following}" if following else _when(again)
    log.error("%s: %s (next attempt %s)", spec.name, failure, when)
    # What may have been finalized is gone on with: another CA would issue it twice.
    asked = issuance.order.finalizing if issuance and not lost else None
    finalizing = asked is not None and asked < TRIES
    if issuance and asked is not None:
        store.orders.keep_finalizing(issuance.order, asked + 1)
    several = len(spec.cas) > 1 and (reaction.fail_over or reaction.stop) and not following
    parked = reaction.everyone or (several and not finalizing)
    if parked:
        until = None if reaction.stop else again
        _park(attempt, Park(until, failure, reaction.everyone), store)
        if set(due.askable(spec, lineage, now)) - {ca}:
            log.warning("%s: going on to the next CA after %s", spec.name, ca)
    if denied:
        _park_account(spec, denied, Park(now + max(react.DAILY, wait), failure, True), store)
        parked = parked or not following  # and nothing else keeps it, once that is lifted
    retry_at = now + wait if finalizing else None if parked else again
    # CAA may permit another one than that which is tried in place of it.
    challenge = following if other or caa else lineage.challenge
    store.lineages.keep_failure(spec.name, failure, failures, retry_at, challenge)
    if following:
        failpoint("setback: another challenge is kept")
    return again


def _park(attempt: Attempt, parked: Park, store: Store) -> None:
    """This CA, and all that are no better off by the names' CAA records."""
    spec, caa = attempt.spec, attempt.consulted
    # First the others: whoever reads in between must not go on to one of them.
    for other in set(spec.cas) - caa.allowed - {attempt.ca} if caa and caa.certain else ():
        store.parks.keep(spec.name, other, replace(parked, everyone=False))
    store.parks.keep(spec.name, attempt.ca, parked)


def _park_account(spec: CertificateSpec, denied: ProviderDenied, park: Park, store: Store) -> None:
    """Every other certificate of that account, or zone, would only be refused as well."""
    account = f"dns {denied.account}"
    whom = f"{account} {denied.zone}" if denied.zone else account
    store.parks.keep(spec.name, whom, park)
    if not spec.writes_by(whom):  # by an alias: the names of that zone are others'
        store.parks.keep(spec.name, account, replace(park, everyone=False))


def _passing_by(error: CertdError, issuance: Issuance | None) -> bool:
    """Whether the order has got further before the CA was away: the back-off begins anew."""
    passing = isinstance(error, Problem) and error.transient
    return passing and issuance is not None and issuance.troubles.progress


def _failure(
    error: CertdError, reaction: Reaction, caa: Consulted | None, now: datetime
) -> Failure:
    if caa is None:
        return Failure(error.what, error.why, error.next or reaction.advice, now)
    # What was found before the order is said already.
    said = [] if caa.said in error.why else [caa.said]
    why = "; ".join(part for part in (error.why, *said) if part)
    return Failure(error.what, why, caa.advice or reaction.advice, now)


def _reaction(
    error: CertdError, failures: int, left: timedelta | None, *, allowed: bool | None
) -> Reaction:
    if isinstance(error, Problem | OrderFailed) and error.refusal:
        asked = error.asked or "new order"
        situation = Situation(asked, failures=failures, left=left, allowed=allowed)
        reaction = conclude(error.refusal, situation)
    elif isinstance(error, CAError) and not isinstance(error, OrderFailed):
        # What is no word of an ACME server at all, such as a page in place of the directory.
        reaction = Reaction(fail_over=True)
    else:
        # Seen by us alone, or not even shown: nothing was asked of the CA.
        wait = due.as_asked(error.retry_after if isinstance(error, ProviderBusy) else None)
        ours = isinstance(error, ChallengeError | ProviderError)
        reaction = Reaction(other_challenge=ours, wait=wait)
    lost = isinstance(error, OrderFailed | CompromisedKey)
    return replace(reaction, lost=True) if lost else reaction


def _hopeless(error: CertdError, issuance: Issuance, lineage: Lineage, now: datetime) -> bool:
    """The CA has sent the same wrong certificate for long."""
    return (
        isinstance(error, BadCertificate)
        and lineage.failure is not None
        and lineage.failure.what == error.what
        and now - issuance.order.created_at > HOPELESS
    )


def _too_late(error: CertdError, issuance: Issuance) -> bool:
    """The certificate was good when it was ordered: its time is over, and no clock is wrong."""
    return isinstance(error, ExpiredCertificate) and issuance.order.created_at < error.at


def _when(at: datetime) -> str:
    return "after you have acted" if at >= due.NEVER else f"{at:%F %TZ}"
