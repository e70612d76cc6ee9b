"""PURE: where a certificate stands: in one word, and as ``certd status --json`` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypedDict

from certd import due
from certd.due import NEVER
from certd.known import Failure, Lineage, Revocation, TargetState
from certd.model import CertificateSpec

if TYPE_CHECKING:
    from certd.store.glance import Stuck

State = Literal["expired", "revoked", "failing", "issuing", "new", "due", "deploying", "ok"]

ROOT_AHEAD = timedelta(days=365)  # before the end of a root of ours, when its successor is due


class ErrorDocument(TypedDict):
    what: str
    why: str
    next: str
    at: str | None


class TargetDocument(TypedDict):
    name: str
    state: str
    version: int | None
    serving: int | None
    last_error: ErrorDocument | None
    reason: str | None
    next_attempt: str | None
    next_look: str | None


class NotAskedDocument(TypedDict):
    ca: str
    until: str | None
    last_error: ErrorDocument | None


class RevocationDocument(TypedDict):
    version: int
    reason: str
    by_ca: bool
    asked_at: str | None
    revoked_at: str | None
    last_error: ErrorDocument | None


class CertificateDocument(TypedDict):
    """One certificate; the times are UTC, as RFC 3339 writes them. See docs/operations.md."""

    name: str
    names: list[str]
    state: State
    not_after: str | None
    serial: str | None
    fingerprint: str | None
    version: int | None
    spki_sha256: str | None
    profile: str | None
    next_spki_sha256: str | None
    revocations: list[RevocationDocument]
    renew_at: str | None
    renew_reason: str
    explanation_url: str | None
    ca: str
    targets: list[TargetDocument]
    failures: int
    last_error: ErrorDocument | None
    not_asked: list[NotAskedDocument]
    next_attempt: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate: what is wanted, what is, what is due, and all that in one word."""

    spec: CertificateSpec
    lineage: Lineage
    plan: due.Plan
    state: State

    @classmethod
    def of(cls, spec: CertificateSpec, lineage: Lineage, now: datetime) -> Entry:
        plan = due.plan(spec, lineage, now)
        return cls(spec, lineage, plan, _state(plan, spec, lineage, now))

    def targets(self) -> list[TargetState]:
        """The states of the configured targets; one that was never touched is pending."""
        have = self.lineage.targets
        return [have.get(name) or TargetState(name) for name in self.spec.targets]

    def document(self) -> CertificateDocument:
        """As ``certd status --json`` shows it."""
        spec, lineage, plan = self.spec, self.lineage, self.plan
        current = lineage.current
        renew_at = _iso(plan.issue.at)
        decisions = {item.target: item for item in plan.targets}
        attempts = [item.decision.at for item in plan.targets if item.act != "look"]
        return {
            "name": spec.name,
            "names": [name.value for name in spec.identifiers],
            "state": self.state,
            "not_after": _iso(current.certificate.not_after) if current else None,
            "serial": current.certificate.serial if current else None,
            "fingerprint": current.certificate.fingerprint if current else None,
            "version": current.number if current else None,
            "spki_sha256": current.certificate.spki_sha256 if current else None,
            "profile": current.profile if current else None,
            "next_spki_sha256": lineage.next_key.spki_sha256 if lineage.next_key else None,
            "revocations": [_revocation(one) for one in lineage.revocations],
            "renew_at": renew_at,
            "renew_reason": plan.issue.reason,
            "explanation_url": lineage.renewal.explanation_url if lineage.renewal else None,
            "ca": current.ca if current else spec.cas[0],
            "targets": [
                {
                    "name": item.target,
                    "state": item.phase,
                    "version": item.version,
                    "serving": item.serving,
                    "last_error": _error(item.failure),
                    "reason": _reason(decisions.get(item.target)),
                    "next_attempt": _at(decisions.get(item.target), look=False),
                    "next_look": _at(decisions.get(item.target), look=True),
                }
                for item in self.targets()
            ],
            "failures": lineage.failures,
            "last_error": _error(lineage.failure),
            "not_asked": [
                {"ca": ca, "until": _iso(parked.until), "last_error": _error(parked.failure)}
                for ca, parked in lineage.parks.items()
                if spec.asks(ca)
            ],
            "next_attempt": _iso(min(attempts)) if attempts else renew_at,
        }


def _reason(item: due.TargetDecision | None) -> str | None:
    """Why something is to be done at a target."""
    return item.decision.reason if item and item.act != "look" else None


def _at(item: due.TargetDecision | None, *, look: bool) -> str | None:
    return _iso(item.decision.at) if item and (item.act == "look") == look else None


def _state(plan: due.Plan, spec: CertificateSpec, lineage: Lineage, now: datetime) -> State:
    """The first that holds."""
    if lineage.current and lineage.current.certificate.not_after <= now:
        return "expired"
    if lineage.revocation and lineage.revocation.revoked_at:
        return "revoked"
    have = lineage.targets
    if (
        any(one.failure and one.pending(now) for one in lineage.revocations)
        or plan.issue.at >= due.NEVER
        or (lineage.failure and due.pressing(spec, lineage, now))
        or any(name in have and have[name].failure for name in spec.targets)
    ):
        return "failing"
    if lineage.placed:
        return "issuing"
    if lineage.current is None:
        return "new"
    if plan.issue.due(now) and not spec.pulled:  # a hub is only asked whether it has another
        return "due"
    return "deploying" if plan.behind else "ok"


class LeftDocument(RevocationDocument):
    """Of a certificate that is not configured any more."""

    name: str


def left_document(one: Revocation) -> LeftDocument:
    return {"name": one.name, **_revocation(one)}


class StuckDocument(TypedDict):
    """A record that could not be removed from its zone so far."""

    name: str
    account: str
    last_error: ErrorDocument | None
    next_attempt: str | None


def stuck_document(one: Stuck) -> StuckDocument:
    return {
        "name": one.name,
        "account": one.account,
        "last_error": _error(one.failure),
        "next_attempt": _iso(one.retry_at),
    }


def _revocation(one: Revocation) -> RevocationDocument:
    return {
        "version": one.number,
        "reason": one.reason,
        "by_ca": one.signer == "ca",
        "asked_at": _iso(one.asked_at),
        "revoked_at": _iso(one.revoked_at),
        "last_error": _error(one.failure),
    }


def _iso(at: datetime | None) -> str | None:
    # strftime takes ten times as long. What is cut off is the fraction and +00:00.
    return None if at is None or at >= NEVER else at.isoformat()[:19] + "Z"


def _error(failure: Failure | None) -> ErrorDocument | None:
    if failure is None:
        return None
    return {
        "what": failure.what,
        "why": failure.why,
        "next": failure.next,
        "at": _iso(failure.at),
    }


def root_ending(ca: str, not_after: datetime, now: datetime) -> str:
    """What to say of a root of our own in its last year, and after it; before, ""."""
    if not_after - now >= ROOT_AHEAD:
        return ""
    verb = "expires" if not_after > now else "expired"
    named = "" if ca == "local" else f" --ca {ca}"
    todo = f"`certd ca init --replace{named}`, and let the clients trust the new one"
    return f"{ca}: its root {verb} at {not_after:%F}: {todo}"
