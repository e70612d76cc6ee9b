"""What is left of the CAs' limits, for all who use an account."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from certd import budget
from certd.budget import Limit, Need
from certd.store.database import Database
from certd.store.leases import batched
from certd.store.schema import bucket

_KEEP = sa.insert(bucket).prefix_with("OR REPLACE")


class Budgets:
    def __init__(self, database: Database) -> None:
        self._database = database

    def take(
        self, needs: Mapping[str, Need], share: float, now: datetime
    ) -> tuple[str, datetime] | None:
        """Take what an order needs, of all buckets or of none.

        None: it is taken; else the key of the bucket that has not enough, and until when.
        ``share`` of each is left to others.
        """
        if not needs:
            return None

        def work(connection: sa.Connection) -> tuple[str, datetime] | None:
            full = _full(connection, needs)
            after: dict[str, datetime] = {}
            lacking: list[tuple[datetime, str]] = []
            for key, need in needs.items():
                found = budget.taken(full.get(key), need, share, now)
                if found is None:
                    lacking.append((budget.free_at(full[key], need, share), key))
                elif not need.looks:
                    after[key] = found
            if lacking:
                until, key = max(lacking)
                return key, until
            if after:
                connection.execute(
                    _KEEP, [{"key": key, "full_at": full_at} for key, full_at in after.items()]
                )
            return None

        return self._database.write(work)

    def spend(self, key: str, limit: Limit, now: datetime) -> None:
        """What has happened counts, whether or not there was enough for it."""

        def work(connection: sa.Connection) -> None:
            full_at = _full(connection, {key: None}).get(key)
            after = max(full_at or now, now) + limit.period / limit.count
            connection.execute(_KEEP, {"key": key, "full_at": after})

        self._database.write(work)

    def forget_the_full(self, now: datetime) -> None:
        """A bucket that is full need not be remembered."""
        full = bucket.c.full_at <= now
        some = sa.select(bucket.c.key).where(full).limit(1)
        if self._database.read(lambda c: c.execute(some).first()):
            self._database.write(lambda c: c.execute(sa.delete(bucket).where(full)))


def _full(connection: sa.Connection, keys: Mapping[str, object]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for some in batched(list(keys)):
        rows = connection.execute(sa.select(bucket).where(bucket.c.key.in_(some)))
        found |= {row.key: row.full_at for row in rows}
    return found
