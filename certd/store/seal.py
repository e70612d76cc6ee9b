"""The seal of one database: its keys, as its rows have them now, and how one is begun.

Each use asks the rows first, in the same transaction: whoever has opened the database before
it was sealed, or before its key was changed, writes nothing that its new key does not seal.
"""

from __future__ import annotations

import sqlalchemy as sa

from certd.errors import StoreError
from certd.references import SecretReference
from certd.store import envelope
from certd.store.envelope import Keys, SealingKey, Wrapped
from certd.store.schema import (
    account,
    authority,
    dns_record,
    next_key,
    order,
    seal_key,
    token,
    version,
)

_ROWS = "SELECT number, sealed_by, wrapped FROM seal_key ORDER BY number DESC"


class Seal:
    """Used inside of the database's transactions only, which are one after another."""

    def __init__(self, reference: SecretReference | None = None) -> None:
        """``reference`` is where the sealing keys are; None: nothing is to be sealed."""
        self._reference = reference
        self._having: tuple[SealingKey, ...] = ()
        self._rows: list[Wrapped] = []
        self._keys = Keys()

    @property
    def wanted(self) -> bool:
        return self._reference is not None

    def keys(self, connection: sa.Connection) -> Keys:
        """What seals and opens in this database now.

        Raises:
            StoreError: it is sealed, and the key is not there.
            SecretError: the sealing keys cannot be fetched.
        """
        rows = [Wrapped(*row) for row in connection.exec_driver_sql(_ROWS)]
        if rows != self._rows:
            known = {key.id for key in self._having}
            if not known.issuperset(row.sealed_by for row in rows):
                self.fetch()
            self._keys = envelope.unwrap(rows, self._having, str(self._reference))
            self._rows = rows
        return self._keys

    def fetch(self) -> SealingKey:
        """Fetch the operator's keys; returns the one that is to seal.

        Raises:
            StoreError: there is no place for them, or what is there is none.
            SecretError: they cannot be fetched.
        """
        if self._reference is None:
            raise StoreError(
                "the database is sealed",
                "the configuration has no seal",
                'write the place of its key into [certd], as in seal = { file = "/etc/certd/seal" }'
                "; a certd that runs since before it was sealed is to be restarted",
            )
        self._having = envelope.sealing_keys(self._reference.fetch())
        return self._having[0]

    def begin(self, connection: sa.Connection, by: SealingKey) -> None:
        """Another data key, which seals from now on; what is there is still to be sealed with it.

        Nothing, if the newest is sealed by this sealing key already. Where no secret has ever
        been, there is nothing to do.
        """
        newest = connection.execute(
            sa.select(seal_key.c.number, seal_key.c.sealed_by).order_by(seal_key.c.number.desc())
        ).first()
        if newest is None or newest.sealed_by != by.id:
            made = envelope.new_data_key(newest.number + 1 if newest else 1, by)
            connection.execute(
                sa.insert(seal_key).values(
                    number=made.number,
                    sealed_by=made.sealed_by,
                    wrapped=made.wrapped,
                    state="whole" if newest is None and _is_empty(connection) else "new",
                )
            )


def _is_empty(connection: sa.Connection) -> bool:
    tables = (account, authority, next_key, order, version, token, dns_record)
    return not any(connection.execute(sa.select(table).limit(1)).first() for table in tables)
