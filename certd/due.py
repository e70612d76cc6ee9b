"""PURE: what is due, when, and why. Reads no clock, rolls no dice: both are arguments.

Everything that certd does of its own accord is decided here, so that ``certd plan`` can
show it without doing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certd.deploying import LAST_RESORT as LAST_RESORT
from certd.deploying import NEVER as NEVER
from certd.deploying import TargetDecision as TargetDecision
from certd.deploying import served as served
from certd.deploying import targets as targets
from certd.known import Lineage, RenewalInfo, Version
from certd.model import (
    WRITTEN,
    Certificate,
    CertificateSpec,
    Decision,
    Identifier,
)

SHORT_LIFETIME = timedelta(days=10)
SHORTEST = timedelta(seconds=5)  # back-off, however little lifetime is left
BACKOFF = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)  # Let's Encrypt's integration guide
# A CA whose windows are over when a certificate is new would have it renewed without end:
# after so many versions in a day, such a window is obeyed only so much later.
DAY = timedelta(days=1)
MOST_A_DAY = 3
HOLD = timedelta(hours=8)


# A hub, which is another certd, tells at once what it has; it is asked so often all the same.
HUB_LOOK = timedelta(minutes=15)
PATIENCE = 3  # questions in a row without an answer, until a hub that is away is a failure

STOPPED = "stopped until you act"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is due, or will be, for one certificate."""

    name: str
    issue: Decision
    ask: Decision | None  # renewal information
    targets: tuple[TargetDecision, ...]
    next_key: Decision | None = None  # to be made in advance

    @property
    def behind(self) -> bool:
        """Whether a target does not serve what is current, as far as is known."""
        return any(item.act != "look" for item in self.targets)

    def next_look(self) -> datetime:
        return min(self.issue.at, self.next_look_beside_order())

    def next_look_beside_order(self) -> datetime:
        """When something but the issuance is due; far away when nothing is."""
        others = [item.decision.at for item in self.targets]
        others += [decision.at for decision in (self.ask, self.next_key) if decision]
        return min(others, default=NEVER)


def plan(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Plan:
    return Plan(
        spec.name,
        issuance(spec, lineage, now),
        None if spec.pulled else _ask(lineage, now),
        tuple(targets(spec, lineage, now)),
        next_key(spec, lineage, now),
    )


def issuance(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Decision:
    """When the next version is to be got from the CA, and why then."""
    wish = _wish(spec, lineage, now)
    if spec.pulled and lineage.ordering:
        wish = Decision(now, "an order from before is given up")
    elif lineage.placed:
        wish = Decision(now, "an order is under way at the CA")
    elif lineage.ordering:  # it is gone on with, but the CA has never heard of it
        wish = Decision(now, wish.reason if wish.due(now) else "an order was begun")
    # A back-off holds whatever the reason; the operator's word ends it (``retry_now``).
    if lineage.held_until and lineage.held_until > max(wish.at, lineage.retry_at or wish.at):
        return Decision(lineage.held_until, f"{wish.reason}; {lineage.held_for}")
    at, why = lineage.retry_at or wish.at, "waiting to try again"
    # What is being issued needs no more permission: it is only looked at, and fetched.
    if lineage.parks and not lineage.issuing:
        asked = max(wish.at, now)
        if not askable(spec, lineage, asked):
            free = min(lineage.parks[name].until or NEVER for name in spec.cas)
            if free > max(at, now):
                at, why = free, "no CA of its list may be asked"
        if (free := _denied(spec, lineage, asked)) > max(at, now):
            at, why = free, "a DNS provider refuses the credential"
    if at <= wish.at:
        return wish
    times = "once" if lineage.failures == 1 else f"{lineage.failures} times"
    failed = f"failed {times}, " if lineage.failures else ""
    return Decision(at, f"{wish.reason}; {failed}{why if at < NEVER else STOPPED}")


def askable(spec: CertificateSpec, lineage: Lineage, at: datetime) -> list[str]:
    """The CAs of the list that may be asked then, in order."""
    parks = lineage.parks
    return [name for name in spec.cas if name not in parks or not parks[name].holds(at)]


def _denied(spec: CertificateSpec, lineage: Lineage, at: datetime) -> datetime:
    """When the DNS providers that its next order needs may be asked again, if not then."""
    if challenge(spec, lineage) not in WRITTEN:
        return at
    parks = [park for whom, park in lineage.parks.items() if spec.writes_by(whom)]
    return max((one.until or NEVER for one in parks if one.holds(at)), default=at)


def challenge(spec: CertificateSpec, lineage: Lineage) -> str:
    """By which its next order is to be proved."""
    return challenges(spec, lineage)[0]


def challenges(spec: CertificateSpec, lineage: Lineage) -> tuple[str, ...]:
    """Those by which it may be, in turn: not by a DNS provider that must not be asked, where there
    is another way.
    """
    kept = lineage.challenge
    first = kept if kept in spec.challenges else spec.challenges[0]
    rest = spec.challenges[spec.challenges.index(first) :]
    if not any(map(spec.writes_by, lineage.parks)):
        return rest
    return tuple(one for one in rest if one not in WRITTEN) or rest


def challenge_after(spec: CertificateSpec, tried: str) -> str | None:
    """The next that is wanted; None: it was the last."""
    rest = spec.challenges[spec.challenges.index(tried) + 1 :] if tried in spec.challenges else ()
    return rest[0] if rest else None


def over(spec: CertificateSpec, lineage: Lineage, now: datetime) -> bool:
    """Whether the last failure is history: what was tried then is not wanted any more."""
    return bool(lineage.failure) and not (lineage.ordering or _wish(spec, lineage, now).due(now))


def _wish(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Decision:
    if lineage.current is None:
        return Decision(now, "no certificate yet")
    if spec.pulled:
        return _pulled(spec, lineage, lineage.current, now)
    certificate = lineage.current.certificate
    if (revoked := lineage.revocation) and revoked.final:
        return Decision(now, f"version {revoked.number} {revoked}")
    if lineage.forced:
        return Decision(now, "renewal asked for by the operator")
    if why := unlike(spec, lineage.current):
        return Decision(now, why)
    return renewal(certificate, lineage.renewal, spec.renew_after)


def unlike(spec: CertificateSpec, version: Version) -> str:
    """Why this version is not what is wanted; "" where it is, whatever its age."""
    certificate = version.certificate
    if changes := _changes(certificate.identifiers, spec.identifiers):
        return f"the names have changed: {changes}"
    if version.key_type != spec.key_type and not spec.pulled:  # a hub's is what it has ordered
        return f"the key type has changed from {version.key_type} to {spec.key_type}"
    if lacking := [usage for usage in spec.usages if usage not in certificate.usages]:
        return f"it is to be for a TLS {' and '.join(lacking)} as well"
    if version.wishes != spec.wishes:
        return _wished(version.wishes, spec.wishes)
    return ""


def _pulled(spec: CertificateSpec, lineage: Lineage, current: Version, now: datetime) -> Decision:
    """When the hub that it comes from is asked whether it has another."""
    if why := unlike(spec, current):
        return Decision(now, why)
    return Decision(lineage.ask_again or now, f"{spec.cas[0]} may have another")


def pressing(spec: CertificateSpec, lineage: Lineage, now: datetime) -> bool:
    """Whether its failure is more than that a hub is away for a while."""
    if not spec.pulled or lineage.current is None or lineage.failures >= PATIENCE:
        return True
    return renewal(lineage.current.certificate, None).at <= now


def last_resort(certificate: Certificate) -> datetime:
    """When the last of its lifetime begins, in which no window and no wish counts."""
    lifetime = certificate.not_after - certificate.not_before
    return certificate.not_after - lifetime * LAST_RESORT


def _changes(have: tuple[Identifier, ...], wanted: tuple[Identifier, ...]) -> str:
    """``+new.example -old.example``; "" where they are the same, in whatever order."""
    if have == wanted:  # mostly, and much quicker than sets
        return ""
    added = [f"+{name}" for name in sorted(set(wanted).difference(have))]
    return " ".join(added + [f"-{name}" for name in sorted(set(have).difference(wanted))])


def _wished(have: str, wanted: str) -> str:
    """Which of the ``CertificateSpec.wishes`` are others, of two that are not the same."""
    before, after = (dict(word.split("=", 1) for word in text.split()) for text in (have, wanted))
    changed = (
        "the key of the signing request (csr) has changed"
        if key == "csr"
        else f"the {key} has changed from {before.get(key, 'none')} to {after.get(key, 'none')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )
    return ", ".join(changed)


def renewal(
    certificate: Certificate, info: RenewalInfo | None, renew_after: float | None = None
) -> Decision:
    """When to renew a certificate with which nothing is wrong.

    The CA's window if it gave one (RFC 9773), else at 2/3 of the lifetime, or 1/2 below
    ten days. The last 5 % of the lifetime overrules any window.
    """
    lifetime = certificate.not_after - certificate.not_before
    last = last_resort(certificate)
    if info is not None:
        if info.selected <= last:
            why = f", explained at {info.explanation_url}" if info.explanation_url else ""
            return Decision(info.selected, f"the CA's renewal window{why}")
        return Decision(last, "the last 5 % of the lifetime, before the CA's renewal window")
    if renew_after is None:
        renew_after = 1 / 2 if lifetime < SHORT_LIFETIME else 2 / 3
        share = "1/2" if lifetime < SHORT_LIFETIME else "2/3"
    else:
        share = f"{renew_after:.0%}"
    at = certificate.not_before + lifetime * renew_after
    if at <= last:
        return Decision(at, f"{share} of the lifetime")
    return Decision(last, "the last 5 % of the lifetime, before renew_after")


def backoff(failures: int, left: timedelta | None, draw: float) -> timedelta:
    """How long to wait after the n-th failure in a row (n >= 1): 1, 10, 100 min, then daily.

    ``left`` is what remains of the lifetime of the certificate being served, or is over since
    (None: there is none): a wait is never longer than an eighth of it, so that a certificate
    of a few days or minutes gets its tries too, and one that has just expired is not left to
    the next day; and never shorter than ``SHORTEST``. ``draw`` in [0, 1) spreads the waits
    over an extra tenth.
    """
    wait = BACKOFF[min(max(failures, 1), len(BACKOFF)) - 1]
    if left is not None:
        wait = min(wait, max(abs(left) / 8, SHORTEST))
    return wait * (1 + draw / 10)


def as_asked(retry_after: float | None) -> timedelta:
    """What a service asks to wait, in seconds: a day at most, for some ask for years."""
    return timedelta(seconds=min(retry_after or 0.0, DAY.total_seconds()))


def _ask(lineage: Lineage, now: datetime) -> Decision | None:
    """Never after expiry: there is nothing left to schedule (RFC 9773 section 4.3.3)."""
    if lineage.current is None or lineage.ask_again is None:
        return None
    if lineage.current.certificate.not_after <= now:
        return None
    return Decision(lineage.ask_again, "the CA may have changed its renewal window")


def next_key(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Decision | None:
    """Whether the key of the next issuance is to be made in advance."""
    have = lineage.next_key
    if not spec.backup_key or (have and have.key_type == spec.key_type):
        return None
    kind = f" of type {spec.key_type}" if have else ""
    return Decision(now, f"there is no backup key{kind} yet")
