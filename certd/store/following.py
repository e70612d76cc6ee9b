"""Another configuration taken over: what is wanted now, and what that means for what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from certd.model import CertificateSpec
from certd.store import parks, wanted
from certd.store.changes import AGAIN, AT_ONCE, changes
from certd.store.rows import EPOCH
from certd.store.schema import lineage, meta, target

_THERE = sa.select(lineage.c.name, lineage.c.wanted, lineage.c.configured)
_WHICH = sa.update(lineage).where(lineage.c.name == sa.bindparam("which"))
_WANT = _WHICH.values(configured=True, wanted=sa.bindparam("text"), due_at=EPOCH, **AT_ONCE)
_LEAVE = _WHICH.values(configured=False)


def follow(
    connection: sa.Connection,
    specs: Mapping[str, CertificateSpec],
    digest: str,
    tables: Mapping[str, str],
) -> None:
    there = {row.name: row for row in connection.execute(_THERE)}
    followed = {
        name: wanted.spec(name, row.wanted) for name, row in there.items() if row.configured
    }
    kept = {row.key: row.value for row in connection.execute(sa.select(meta))}
    found = changes(specs, tables, followed, kept)
    if new := [_new_row(spec) for name, spec in specs.items() if name not in there]:
        connection.execute(sa.insert(lineage), new)
    if known := found.at_once & there.keys():
        connection.execute(
            _WANT, [{"which": name, "text": wanted.spec_text(specs[name])} for name in known]
        )
        parks.lift(connection, known)
    if left := followed.keys() - specs.keys():
        connection.execute(_LEAVE, [{"which": name} for name in left])
    for name in found.again:
        _do_again(connection, name)
    parks.lift_for_all(connection, found.cas)
    now = {"configuration": digest, **tables}
    connection.execute(sa.delete(meta).where(meta.c.key.in_(list(now))))
    connection.execute(sa.insert(meta), [{"key": k, "value": v} for k, v in now.items()])


def _do_again(connection: sa.Connection, name: str) -> None:
    """Deploy to this target again, whatever is there."""
    connection.execute(sa.update(target).where(target.c.target == name).values(AGAIN))
    served = sa.select(target.c.lineage).where(target.c.target == name)
    connection.execute(sa.update(lineage).where(lineage.c.name.in_(served)).values(due_at=EPOCH))


def _new_row(spec: CertificateSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "configured": True,
        "wanted": wanted.spec_text(spec),
        "due_at": EPOCH,
        "epoch": 0,
        "forced": False,
        "failures": 0,
        "ask_failures": 0,
    }
