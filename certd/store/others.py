"""Certificates at targets that their services renew themselves: seen there, and only shown.

Kept beside the digests of the configuration's tables: a list for each target, made anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from certd.model import Managed
from certd.store.database import Database
from certd.store.schema import meta

_KEY = "managed "


class Others:
    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, target: str, found: Collection[Managed], now: datetime) -> None:
        """What the service of this target had at that instant."""
        rows = [
            [one.id, one.names, one.not_after and one.not_after.timestamp(), one.status]
            for one in found
        ]
        text = json.dumps({"at": now.timestamp(), "found": rows})
        key = f"{_KEY}{target}"

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.delete(meta).where(meta.c.key == key))
            connection.execute(sa.insert(meta), {"key": key, "value": text})

        self._database.write(work)

    def seen_at(self, target: str) -> datetime | None:
        """When it was looked last; None: never."""
        query = sa.select(meta.c.value).where(meta.c.key == f"{_KEY}{target}")
        text = self._database.read(lambda connection: connection.execute(query).scalar())
        return datetime.fromtimestamp(json.loads(text)["at"], UTC) if text else None


def others(kept: Mapping[str, str], targets: Collection[str]) -> dict[str, list[Managed]]:
    """By target, of these, from the rows of ``meta``."""
    return {
        target: [
            Managed(
                id,
                tuple(names),
                None if ends is None else datetime.fromtimestamp(ends, UTC),
                status,
            )
            for id, names, ends, status in json.loads(kept[f"{_KEY}{target}"])["found"]
        ]
        for target in sorted(targets)
        if f"{_KEY}{target}" in kept
    }
