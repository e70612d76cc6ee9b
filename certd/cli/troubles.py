"""What has failed, in full, and when it is tried again: for ``status`` and ``show``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from certd.cli.options import ahead, instant
from certd.cli.overview import Overview
from certd.due import NEVER, STOPPED, TargetDecision
from certd.known import Revocation
from certd.standing import Entry


def troubles(found: Overview) -> Iterator[str]:
    """A paragraph for each failure, which begins with an empty line."""
    for entry in found.entries:
        spec, lineage = entry.spec, entry.lineage
        if lineage.failure:
            yield f"\n{spec.name}: {lineage.failure}\n  {_again(entry.plan.issue.at, found.now)}"
        for asked, parked in lineage.parks.items():
            if spec.asks(asked) and parked.holds(found.now) and parked.failure != lineage.failure:
                until = f"until {instant(parked.until)}" if parked.until else STOPPED
                whom = asked if asked in spec.cas else _account(asked)
                yield f"\n{spec.name}: {whom} is not asked, {until}: {parked.failure}"
        for one in lineage.revocations:
            if one.failure and one.pending(found.now):
                yield _unrevoked(spec.name, one, found.now)
        waiting = {item.target: item for item in entry.plan.targets if item.waits}
        for state in entry.targets():
            if state.failure:
                item = waiting.get(state.target)
                again = turn(item, found.now) if item else _again(state.retry_at, found.now)
                yield f"\n{spec.name} at {state.target}: {state.failure}\n  {again}"
        yield from _waiting(entry, found.now)
    for one in found.left:
        yield _unrevoked(f"{one.name}, which is not configured any more", one, found.now)


def _waiting(entry: Entry, now: datetime) -> Iterator[str]:
    """Targets with which nothing is wrong, but whose turn or window has not come."""
    for item in entry.plan.targets:
        state = entry.lineage.targets.get(item.target)
        if item.waits and not (state and state.failure):
            why = item.decision.reason.removesuffix(item.waits)
            yield f"\n{entry.spec.name} at {item.target}: {why}{turn(item, now)}"


def turn(item: TargetDecision, now: datetime) -> str:
    """For what it waits, and until when."""
    at = item.decision.at
    return item.waits + (f" ({instant(at)}, {ahead(at, now)})" if at < NEVER else "")


def _account(asked: str) -> str:
    """ "dns main" and "dns main example.com", as they are written in the configuration."""
    _, table, *zone = asked.split(" ")
    return f"[dns.{table}] for {zone[0]}" if zone else f"[dns.{table}]"


def _unrevoked(name: str, one: Revocation, now: datetime) -> str:
    why = one.failure or "it was not asked for so far"
    return f"\n{name}: version {one.number} is not revoked yet: {why}\n  {_asked_again(one, now)}"


def _again(at: datetime | None, now: datetime) -> str:
    if at is None or at <= now:
        return "next attempt now"
    if at >= NEVER:
        return "stopped until you act: then `certd renew NAME`"
    return f"next attempt {instant(at)} ({ahead(at, now)}); `certd renew NAME` tries at once"


def _asked_again(one: Revocation, now: datetime) -> str:
    at = one.retry_at
    if at is not None and at >= NEVER:
        return f"stopped until you act: then `certd revoke {one.name} --version {one.number}`"
    return f"next attempt {ahead(at, now) if at else 'now'}"
