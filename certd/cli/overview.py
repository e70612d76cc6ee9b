"""What is wanted beside what is: the rows of ``certd plan`` and ``certd status``."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from certd import config as configuration
from certd import standing
from certd.errors import StoreError
from certd.known import Revocation
from certd.model import Managed
from certd.standing import Entry
from certd.store.files import daemon_lock
from certd.store.glance import Stuck, glance, roots, stuck
from certd.store.locks import FileLock
from certd.store.others import others


@dataclass(frozen=True, slots=True)
class Overview:
    """Every configured certificate, and whether the daemon runs."""

    entries: tuple[Entry, ...]
    daemon: str  # what the daemon's lock says, "" when it does not run
    now: datetime
    roots: tuple[str, ...] = ()  # what to say of those of our own CAs that end
    left: tuple[Revocation, ...] = ()  # to be done yet, of certificates not configured any more
    stuck: tuple[Stuck, ...] = ()  # records that are still in their zones
    others: Mapping[str, list[Managed]] = field(default_factory=dict)  # by target


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
    entries = tuple(Entry.of(spec, lineage, now) for spec, lineage in rows)
    wanted = {spec.name for spec, _ in rows}
    left = tuple(
        one
        for lineage in (*seen.left, *(there for _, there in seen.wanted))
        for one in lineage.revocations
        if lineage.name not in wanted and one.pending(now)
    )
    used = {ca for entry in entries for ca in entry.spec.cas}
    ending = [standing.root_ending(ca, at, now) for ca, at in roots(state).items() if ca in used]
    holder = lock.holder() if lock.held() else ""
    there = others(seen.digests, {target for entry in entries for target in entry.spec.targets})
    warnings = tuple(filter(None, ending))
    return Overview(entries, holder, now, warnings, left, tuple(stuck(state)), there)
