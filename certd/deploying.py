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

    ``verify``: it is to serve what was just deployed; ``hook``: it does, and its post_hook is
    to succeed; ``look``: whether it still serves what it did.
    """

    target: str
    act: Literal["deploy", "verify", "hook", "look"]
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
            act: Literal["verify", "hook"] = "hook" if state.failure else "verify"
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
    opens = maintenance.opens(rule.window, at)
    if opens == at:
        return decided(wish.at)
    until = lineage.targets.get(rule.target, _UNTOUCHED).until
    assert lineage.current is not None  # noqa: S101 - whoever asks has looked
    facts = lineage.current.certificate
    if until and opens > until - (facts.not_after - facts.not_before) * LAST_RESORT:
        why = f"{OUTSIDE}, for what it serves ends {until:%F}, before that opens"
        return decided(wish.at, why)
    return decided(opens, waits="its window opens then")


def served(lineage: Lineage, target: str) -> bool:
    """Whether it is known to serve what is current."""
    state = lineage.targets.get(target, _UNTOUCHED)
    current = lineage.current.number if lineage.current else None
    return state.phase == "verified" and state.version == current
