"""PURE: what is due at the targets of a certificate: deployments, looks, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from certd import maintenance
from certd.known import Lineage, TargetState
from certd.model import CertificateSpec, Decision, TargetRule

NEVER = datetime(9000, 1, 1, tzinfo=UTC)
LAST_RESORT = 0.05  # of the lifetime: from here on no window and no wish counts
OUTSIDE = "outside its window"
_UNTOUCHED = TargetState("")


@dataclass(frozen=True, slots=True)
class TargetDecision:
    """What one target needs.

    ``verify``: it is to serve what was just deployed; ``wait``: that takes its service long;
    ``hook``: it does, and its post_hook is to succeed; ``look``: whether it still serves what
    it did.
    """

    target: str
    act: Literal["deploy", "verify", "wait", "hook", "look"]
    decision: Decision
    waits: str = ""  # for what, where its turn or its window has not come


def targets(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Iterator[TargetDecision]:
    if lineage.current is None:
        return
    number = lineage.current.number
    rules = {rule.target: rule for rule in spec.rules}
    for name in spec.targets:
        state = lineage.targets.get(name, _UNTOUCHED)
        at = state.retry_at or now
        if state.version != number:
            wish = Decision(now, f"version {number} is not there")
        elif state.phase == "applied":
            act: Literal["verify", "hook", "wait"] = "verify"
            if state.failure:
                act = "hook" if state.serving == number else "wait"
            why = state.failure.what if state.failure else f"version {number} must be served"
            yield TargetDecision(name, act, Decision(at, why))
            continue
        elif state.phase == "verified":
            if state.retry_at:
                yield TargetDecision(name, "look", Decision(at, "whether it still serves it"))
            continue
        elif state.failure:
            wish = Decision(at, f"failed: {state.failure.what}")
        else:
            wish = Decision(at, "to be deployed")
        if rule := rules.get(name):
            yield _in_turn(wish, rule, spec, lineage, now)
        else:
            yield TargetDecision(name, "deploy", wish)


def _in_turn(
    wish: Decision, rule: TargetRule, spec: CertificateSpec, lineage: Lineage, now: datetime
) -> TargetDecision:
    """When it may be deployed there: after those that come first, and in its window."""

    def decided(at: datetime, why: str = "", waits: str = "") -> TargetDecision:
        reason = "; ".join(filter(None, (wish.reason, why or waits)))
        return TargetDecision(rule.target, "deploy", Decision(at, reason), waits)

    first = [name for name in rule.after if name in spec.targets and not served(lineage, name)]
    if first:
        return decided(NEVER, waits=f"it waits for {', '.join(first)}")
    at = max(wish.at, now)
    opening, why = opens(rule, lineage, at)
    if opening > at:
        return decided(opening, waits="its window opens then")
    return decided(wish.at, why)


def opens(rule: TargetRule, lineage: Lineage, at: datetime) -> tuple[datetime, str]:
    """When its window is open from ``at`` on; or ``at``, and why no window counts."""
    opening = maintenance.opens(rule.window, at)
    until = lineage.targets.get(rule.target, _UNTOUCHED).until
    if opening == at or until is None or lineage.current is None:
        return opening, ""
    facts = lineage.current.certificate
    if opening > until - (facts.not_after - facts.not_before) * LAST_RESORT:
        return at, f"{OUTSIDE}, for what it serves ends {until:%F}, before that opens"
    return opening, ""


def served(lineage: Lineage, target: str) -> bool:
    """Whether it is known to serve what is current."""
    state = lineage.targets.get(target, _UNTOUCHED)
    current = lineage.current.number if lineage.current else None
    return state.phase == "verified" and state.version == current
