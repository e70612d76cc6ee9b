"""Keys made in advance, whose pins can be published before they are used."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certd.known import NextKey
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.envelope import of_next_key
from certd.store.leases import Leases
from certd.store.schema import next_key
from certd.store.seal import Seal

_KEY = sa.select(next_key.c.key_pem, next_key.c.spki_sha256).where(
    next_key.c.lineage == sa.bindparam("name")
)
_OF = sa.delete(next_key).where(next_key.c.lineage == sa.bindparam("name"))
# Once a version has it, it is the current key; and one that a CA has refused is no next one.
USED = _OF.where(next_key.c.spki_sha256 == sa.bindparam("pin"))


class NextKeys:
    def __init__(self, database: Database, leases: Leases, seal: Seal) -> None:
        self._database = database
        self._leases = leases
        self._seal = seal

    def get(self, name: str) -> Secret | None:
        """The key that the next issuance uses."""

        def work(connection: sa.Connection) -> Secret | None:
            row = connection.execute(_KEY, {"name": name}).first()
            if row is None:
                return None
            place = of_next_key(name, row.spki_sha256)
            return self._seal.keys(connection).open(row.key_pem, place)

        return self._database.read(work)

    def keep(self, name: str, key_pem: Secret, about: NextKey, now: datetime) -> None:
        """In place of the one that was there, if any."""

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            place = of_next_key(name, about.spki_sha256)
            sealed = self._seal.keys(connection).seal(key_pem, place)
            connection.execute(_OF, {"name": name})
            connection.execute(
                sa.insert(next_key).values(
                    lineage=name,
                    key_type=about.key_type,
                    spki_sha256=about.spki_sha256,
                    created_at=now,
                    key_pem=sealed,
                )
            )

        self._database.write(work)

    def drop(self, name: str, pin: str) -> None:
        """If it is the one with this pin."""

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            connection.execute(USED, {"name": name, "pin": pin})

        self._database.write(work)
