"""What of a database is sealed, and with which keys. By the standard library alone, of any copy."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from certd.errors import StoreError
from certd.references import SecretReference
from certd.store.backup import opened
from certd.store.envelope import PREFIX, Keys, Wrapped, sealing_keys, unwrap

SECRETS = (
    ("account", "key_pem"),
    ("account", "next_key_pem"),
    ("authority", "key_pem"),
    ("next_key", "key_pem"),
    ("version", "key_pem"),
    ("certificate_order", "key_pem"),
    ("token", "key_authorization"),
    ("dns_record", "key_authorization"),
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """``by`` are the ids of the operator's keys that it takes; counts are of secrets."""

    by: tuple[str, ...]
    state: str  # of the newest data key: see ``resealing``; "": there is none
    sealed: int
    plain: int


def look(path: Path) -> Sealed:
    """How much of this database is sealed, and by what.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    with opened(path) as connection:
        try:
            rows = _rows(connection)
            counts = {True: 0, False: 0}
            for table, column in SECRETS:
                columns = connection.execute(f"PRAGMA table_info({table})")
                if column not in {row[1] for row in columns}:
                    continue  # a copy from before there was such a thing
                query = f"""SELECT substr({column}, 1, {len(PREFIX)}) = '{PREFIX}', count(*)
                    FROM {table} WHERE {column} IS NOT NULL GROUP BY 1"""  # noqa: S608 - ours
                for sealed, count in connection.execute(query):
                    counts[bool(sealed)] += count
            state = rows[0][3] if rows else ""
        except sqlite3.Error as error:
            raise StoreError(f"cannot read {path}", str(error), "see `certd db check`") from error
    by = dict.fromkeys(str(row[1]) for row in rows)
    return Sealed(tuple(by), state, counts[True], counts[False])


def keys_of(connection: sqlite3.Connection, seal: SecretReference | None) -> Keys:
    """The keys of this database; none if it is not sealed.

    Raises:
        StoreError, SecretError: it is sealed, and the key is not there.
    """
    rows = [Wrapped(*row[:3]) for row in _rows(connection)]
    if not rows:
        return Keys()
    if seal is None:
        raise StoreError(
            f"it is sealed with the key {rows[0].sealed_by}",
            "the configuration has no seal, so no private key in it can be looked at",
            'write the place of that key into [certd], as in seal = { file = "/etc/certd/seal" }',
        )
    return unwrap(rows, sealing_keys(seal.fetch()), str(seal))


def _rows(connection: sqlite3.Connection) -> list[tuple[int, str, str, str]]:
    """Newest first; of a database from before there were any, none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seal_key'").fetchone():
        return []
    return [
        (int(row[0]), str(row[1]), str(row[2]), str(row[3]))
        for row in connection.execute(
            "SELECT number, sealed_by, wrapped, state FROM seal_key ORDER BY number DESC"
        )
    ]
