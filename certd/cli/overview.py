"""What is wanted beside what is: the rows of ``certd plan`` and ``certd status``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certd import config as configuration
from certd import due
from certd.model import CertificateSpec, Lineage, TargetState
from certd.store import FileLock, Store


@dataclass(frozen=True, slots=True)
class Overview:
    """Every configured certificate, and whether the daemon runs."""

    rows: tuple[tuple[CertificateSpec, Lineage], ...]
    daemon: str  # what the daemon's lock says, "" when it does not run
    now: datetime


def overview(path: Path) -> Overview:
    """Reads only the store where that already follows the configuration.

    A configuration of 10,000 certificates takes longer to parse than to show.
    """
    state, digest = configuration.state_folder(path)
    store = Store.look(state)
    try:
        rows = store.lineages.all()
        if store.lineages.configuration() != digest:
            known = {lineage.name: lineage for _, lineage in rows}
            specs = configuration.load(path).certificates
            rows = [(spec, known.get(name, Lineage(name))) for name, spec in sorted(specs.items())]
    finally:
        store.close()
    lock = FileLock(state / "daemon.lock")
    return Overview(tuple(rows), lock.holder() if lock.held() else "", datetime.now(UTC))


def state(spec: CertificateSpec, lineage: Lineage, now: datetime) -> str:
    """One word: expired, failing, issuing, new, deploying or ok; the worst that holds."""
    if lineage.current and lineage.current.certificate.not_after <= now:
        return "expired"
    if lineage.failure or any(item.failure for item in targets(spec, lineage)):
        return "failing"
    if lineage.ordering:
        return "issuing"
    if lineage.current is None:
        return "new"
    if due.plan(spec, lineage, now).targets:
        return "deploying"
    return "ok"


def targets(spec: CertificateSpec, lineage: Lineage) -> Iterable[TargetState]:
    """The states of the configured targets; one that was never touched is pending."""
    for name in spec.targets:
        yield lineage.targets.get(name, TargetState(name))
