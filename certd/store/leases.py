"""Who works on which certificate, and which are due.

A lease is a row's ``holder`` and ``epoch``. The epoch is a fencing token: each lease
bumps it, and ``guard`` refuses the writes of a worker whose lease was taken over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certd.errors import StoreError
from certd.store.database import Database
from certd.store.locks import Worker
from certd.store.rows import EPOCH
from certd.store.schema import lineage

IN_ONE_STATEMENT = 500  # SQLite of Debian 12 takes 250,000 variables, older ones 999

# Statements are made once: building one costs more than running it.
_DUE = (
    sa.select(lineage.c.name, lineage.c.epoch)
    .where(
        lineage.c.configured,
        lineage.c.due_at <= sa.bindparam("now", type_=lineage.c.due_at.type),
        lineage.c.holder.is_(None),
    )
    .order_by(lineage.c.due_at)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
# Whether the certificate is still ours: the condition of every write, with ``terms``.
HELD = (
    sa.select(lineage.c.name)
    .where(
        lineage.c.name == sa.bindparam("lease_name"),
        lineage.c.holder == sa.bindparam("lease_holder"),
        lineage.c.epoch == sa.bindparam("lease_epoch"),
    )
    .correlate(None)
    .exists()
)
_GUARD = sa.select(HELD)
# What was asked for while it was leased (a forced renewal, a look at the CA) is not lost.
_RELEASE = (
    sa.update(lineage)
    .where(lineage.c.name == sa.bindparam("lease_name"), HELD)
    .values(
        holder=None,
        due_at=sa.func.coalesce(lineage.c.due_at, sa.bindparam("at", type_=lineage.c.due_at.type)),
    )
)
_FREED: dict[str, Any] = {
    "holder": None,
    "due_at": sa.func.coalesce(lineage.c.due_at, sa.literal(EPOCH, lineage.c.due_at.type)),
}


class LeaseLost(StoreError):
    """Another worker has taken the certificate over; this one must not touch it any more."""


class Leases:
    def __init__(self, database: Database, worker: Worker | None) -> None:
        self._database = database
        self._worker = worker
        self.me = worker.id if worker else "me"
        self._epochs: dict[str, int] = {}

    def claim_due(self, now: datetime, limit: int) -> list[str]:
        """Lease up to ``limit`` certificates that are due, the longest due first."""

        def work(connection: sa.Connection) -> Mapping[str, int]:
            rows = connection.execute(_DUE, {"now": now, "limit": limit}).all()
            return self._take(connection, {row.name: row.epoch for row in rows})

        # Look first without the write lock: mostly nothing is due.
        if not self._database.read(lambda c: c.execute(_DUE, {"now": now, "limit": 1}).first()):
            return []
        taken = self._database.write(work)
        self._epochs.update(taken)
        return list(taken)

    def claim(self, names: Iterable[str]) -> list[str]:
        """Lease those of these certificates that nobody else has; returns them."""

        def work(connection: sa.Connection) -> Mapping[str, int]:
            free: dict[str, int] = {}
            for some in batched(list(names)):
                rows = connection.execute(
                    sa.select(lineage.c.name, lineage.c.epoch).where(
                        lineage.c.name.in_(some),
                        sa.or_(lineage.c.holder.is_(None), lineage.c.holder == self.me),
                    )
                )
                free |= {row.name: row.epoch for row in rows}
            return self._take(connection, free)

        taken = self._database.write(work)
        self._epochs.update(taken)
        return list(taken)

    def _take(self, connection: sa.Connection, epochs: Mapping[str, int]) -> Mapping[str, int]:
        for some in batched(list(epochs)):
            connection.execute(
                sa.update(lineage)
                .where(lineage.c.name.in_(some))
                # Whoever sets due_at from now on wants it looked at again.
                .values(holder=self.me, epoch=lineage.c.epoch + 1, due_at=None)
            )
        return {name: epoch + 1 for name, epoch in epochs.items()}

    def guard(self, connection: sa.Connection, name: str) -> None:
        """Raise LeaseLost unless the certificate is still ours; first in every longer write."""
        if not connection.execute(_GUARD, self.terms(name)).scalar():
            raise _lost(name)

    def write(
        self, name: str, statement: sa.Update, values: Mapping[str, Any], *, defer: bool = False
    ) -> None:
        """Execute one statement that has ``HELD`` among its conditions.

        Raises:
            LeaseLost: the certificate is no longer ours, and nothing was written.
        """
        values = {**self.terms(name), **values}

        def work(connection: sa.Connection) -> None:
            if not connection.execute(statement, values).rowcount:
                raise _lost(name)

        (self._database.defer if defer else self._database.write)(work)

    def terms(self, name: str) -> dict[str, Any]:
        """The values that ``HELD`` needs."""
        epoch = self._epochs.get(name)
        return {"lease_name": name, "lease_holder": self.me, "lease_epoch": epoch}

    def release(self, name: str, due_at: datetime | None) -> None:
        """Give it back, to be looked at again at ``due_at`` by whoever is there then."""
        terms = self.terms(name)
        # Before it is given back: another thread may lease it again at once, and its epoch stays.
        self._epochs.pop(name, None)
        try:
            self.write(name, _RELEASE, {**terms, "at": due_at})
        except LeaseLost:
            raise
        except BaseException:  # it is still ours
            self._epochs[name] = terms["lease_epoch"]
            raise

    def release_all(self) -> None:
        """On the way out: everything that is still ours is due at once."""

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.update(lineage).where(lineage.c.holder == self.me).values(_FREED))

        self._database.write(work)
        self._epochs.clear()

    def free_the_dead(self) -> Iterable[str]:
        """Give back what a process that no longer runs had leased; returns those workers."""
        holders = self._database.read(
            lambda connection: (
                connection.execute(
                    sa.select(lineage.c.holder).where(lineage.c.holder.is_not(None)).distinct()
                )
                .scalars()
                .all()
            )
        )
        dead = [id for id in holders if self._worker and not self._worker.alive(id)]
        if dead:
            self._database.write(
                lambda connection: connection.execute(
                    sa.update(lineage).where(lineage.c.holder.in_(dead)).values(_FREED)
                )
            )
        return dead


def _lost(name: str) -> LeaseLost:
    return LeaseLost(f"{name} is no longer ours", "another worker has taken it over")


def batched(names: list[str]) -> Iterable[list[str]]:
    return (
        names[start : start + IN_ONE_STATEMENT] for start in range(0, len(names), IN_ONE_STATEMENT)
    )
