"""What is wanted beside what is: the rows of ``certd plan`` and ``certd status``."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certd import config as configuration
from certd import due
from certd.errors import StoreError
from certd.model import CertificateSpec, Lineage, TargetState
from certd.store.files import daemon_lock
from certd.store.glance import glance
from certd.store.locks import FileLock


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate: what is wanted, what is, what is due, and all that in one word."""

    spec: CertificateSpec
    lineage: Lineage
    plan: due.Plan
    state: str

    def targets(self) -> list[TargetState]:
        """The states of the configured targets; one that was never touched is pending."""
        have = self.lineage.targets
        return [have.get(name) or TargetState(name) for name in self.spec.targets]


@dataclass(frozen=True, slots=True)
class Overview:
    """Every configured certificate, and whether the daemon runs."""

    entries: tuple[Entry, ...]
    daemon: str  # what the daemon's lock says, "" when it does not run
    now: datetime


def overview(path: Path, name: str | None = None) -> Overview:
    """Of all certificates, or of this one only, and of none where no such is configured.

    Reads only the store where that already follows the configuration: one of 10,000
    certificates takes longer to parse than to show.
    """
    gc.disable()  # the command makes many objects and ends: there is nothing to collect
    state, digest = configuration.state_folder(path)
    try:
        seen = glance(state, name)
    except StoreError:
        configuration.load(path)  # its mistakes first: one may have named that folder
        raise
    rows = seen.wanted
    if seen.configuration != digest:
        config = configuration.load(path)
        specs = config.certificates
        if name is not None:
            specs = {name: specs[name]} if name in specs else {}
        rows = seen.as_under(specs, config.table_digests)
    lock, now = FileLock(daemon_lock(state)), datetime.now(UTC)
    entries = tuple(_entry(spec, lineage, now) for spec, lineage in rows)
    return Overview(entries, lock.holder() if lock.held() else "", now)


def _entry(spec: CertificateSpec, lineage: Lineage, now: datetime) -> Entry:
    plan = due.plan(spec, lineage, now)
    return Entry(spec, lineage, plan, _state(plan, spec, lineage, now))


def _state(plan: due.Plan, spec: CertificateSpec, lineage: Lineage, now: datetime) -> str:
    """The first that holds: expired, revoked, failing, issuing, new, due, deploying, ok."""
    if lineage.current and lineage.current.certificate.not_after <= now:
        return "expired"
    if lineage.revocation and lineage.revocation.revoked_at:
        return "revoked"
    have = lineage.targets
    if (
        any(one.failure for one in lineage.revocations)
        or plan.issue.at >= due.NEVER
        or lineage.failure
        or any(name in have and have[name].failure for name in spec.targets)
    ):
        return "failing"
    if lineage.placed:
        return "issuing"
    if lineage.current is None:
        return "new"
    if plan.issue.due(now):
        return "due"
    return "deploying" if plan.targets else "ok"
