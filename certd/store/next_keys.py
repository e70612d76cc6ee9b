"""Keys made in advance, whose pins can be published before they are used."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certd.model import NextKey
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.leases import Leases
from certd.store.schema import next_key

_KEY = sa.select(next_key.c.key_pem).where(next_key.c.lineage == sa.bindparam("name"))
_OF = sa.delete(next_key).where(next_key.c.lineage == sa.bindparam("name"))
# Once a version has it, it is the current key; and one that a CA has refused is no next one.
USED = _OF.where(next_key.c.spki_sha256 == sa.bindparam("pin"))


class NextKeys:
    def __init__(self, database: Database, leases: Leases) -> None:
        self._database = database
        self._leases = leases

    def get(self, name: str) -> Secret | None:
        """The key that the next issuance uses."""
        found = self._database.read(lambda c: c.execute(_KEY, {"name": name}).scalar())
        return None if found is None else Secret(found)

    def keep(self, name: str, key_pem: Secret, about: NextKey, now: datetime) -> None:
        """In place of the one that was there, if any."""

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            connection.execute(_OF, {"name": name})
            connection.execute(
                sa.insert(next_key).values(
                    lineage=name,
                    key_type=about.key_type,
                    spki_sha256=about.spki_sha256,
                    created_at=now,
                    key_pem=key_pem.reveal(),
                )
            )

        self._database.write(work)

    def drop(self, name: str, pin: str) -> None:
        """If it is the one with this pin."""

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            connection.execute(USED, {"name": name, "pin": pin})

        self._database.write(work)
