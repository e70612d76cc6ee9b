"""PURE: what another configuration means for what the store has of each certificate.

``Lineages.take_over`` writes it down; ``certd plan`` and ``certd status`` show it before
anybody has, so that they say what the next run will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from certd.known import Lineage
from certd.model import CertificateSpec

# The columns, which are the fields, that start anew.
# What failed as it was may well succeed as it is now: no back-off holds.
AT_ONCE: Mapping[str, Any] = {
    "failures": 0,
    "retry_at": None,
    "held_until": None,
    "challenge": None,
}
# What was done at a target as it was is to be done at it as it is now.
AGAIN: Mapping[str, Any] = {"phase": "pending", "failures": 0, "retry_at": None, "failure": None}

# The tables that say how a challenge is answered.
_ANSWERED = {"http-01": "http", "tls-alpn-01": "tls_alpn"}


@dataclass(frozen=True, slots=True)
class Changes:
    """``at_once``: certificates, new ones among them; ``again``: targets; ``cas`` that are
    to be asked again by everyone, as are DNS providers, by the names of their tables.
    """

    at_once: frozenset[str]
    again: frozenset[str]
    cas: frozenset[str]

    def applied(self, lineage: Lineage) -> Lineage:
        """What becomes of it when the configuration is taken over."""
        if not self.again.isdisjoint(lineage.targets):
            targets = {
                name: replace(state, **AGAIN) if name in self.again else state
                for name, state in lineage.targets.items()
            }
            lineage = replace(lineage, targets=targets)
        if lineage.name not in self.at_once:
            return lineage
        parks = {
            ca: parked
            for ca, parked in lineage.parks.items()
            if parked.everyone and " ".join(ca.split(" ")[:2]) not in self.cas
        }
        return replace(lineage, **AT_ONCE, parks=parks)


def changes(
    specs: Mapping[str, CertificateSpec],
    tables: Mapping[str, str],
    followed: Mapping[str, CertificateSpec],
    kept: Mapping[str, str],
) -> Changes:
    """``specs`` and the digests of ``tables`` are wanted now; ``followed`` and ``kept`` were.

    A table of which no digest was kept has not changed: nothing was done with another.
    """
    others = {table for table, digest in tables.items() if kept.get(table, digest) != digest}
    return Changes(
        frozenset(
            name
            for name, spec in specs.items()
            if followed.get(name) != spec or not others.isdisjoint(_asked(spec))
        ),
        frozenset(_named("target ", others)),
        frozenset(_named("ca ", others)) | {table for table in others if table.startswith("dns ")},
    )


def _named(kind: str, tables: Collection[str]) -> Iterator[str]:
    return (table.removeprefix(kind) for table in tables if table.startswith(kind))


def _asked(spec: CertificateSpec) -> Iterator[str]:
    """The tables of those whom its issuance depends on; nothing is ordered in vain for a target."""
    yield from (f"ca {ca}" for ca in spec.cas)
    yield from (f"target {target}" for target in spec.targets)
    yield from (f"dns {table}" for _, table in spec.dns)
    yield from (_ANSWERED[challenge] for challenge in spec.challenges if challenge in _ANSWERED)
