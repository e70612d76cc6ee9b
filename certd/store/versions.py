"""Which versions are current; those that came from a target instead of an order."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from certd.model import Bundle
from certd.store import rows
from certd.store.database import Database
from certd.store.envelope import Keys, of_version
from certd.store.leases import Leases
from certd.store.next_keys import USED
from certd.store.orders import fresh
from certd.store.schema import lineage, order, target, version
from certd.store.seal import Seal

# Made once: it is asked before each order, and building it costs more than running it.
_MINE = version.c.lineage == lineage.c.name
_WHOLE = sa.select(
    lineage.c.current,
    sa.select(version.c.number).where(_MINE).exists().label("some"),
    sa.select(version.c.number)
    .where(_MINE, version.c.number == lineage.c.current)
    .exists()
    .label("there"),
).where(lineage.c.name == sa.bindparam("name"))
_CURRENT = sa.select(lineage.c.name, lineage.c.current).where(
    lineage.c.configured, lineage.c.current.is_not(None)
)

_FINGERPRINTS = sa.select(lineage.c.name, version.c.fingerprint).where(
    lineage.c.configured, version.c.lineage == lineage.c.name, version.c.number == lineage.c.current
)


class Versions:
    def __init__(self, database: Database, leases: Leases, seal: Seal) -> None:
        self._database = database
        self._leases = leases
        self._seal = seal

    def whole(self, name: str) -> bool:
        """Whether the current version is there; where none is current, that there is none."""
        row = self._database.read(lambda c: c.execute(_WHOLE, {"name": name}).one())
        return bool(row.there) if row.current is not None else not row.some

    def current(self) -> dict[str, int]:
        """The number of each configured certificate's current version, if it has one."""
        return {row.name: row.current for row in self._database.read(lambda c: c.execute(_CURRENT))}

    def fingerprints(self) -> dict[str, str]:
        """That of each configured certificate's current version, if it has one."""
        found = self._database.read(lambda c: c.execute(_FINGERPRINTS).all())
        return {row.name: row.fingerprint for row in found}

    def adopt(
        self,
        found: Bundle,
        key_type: str,
        ca: str,
        targets: Iterable[str],
        now: datetime,
        wishes: str = "",
        directory: str | None = None,
    ) -> int:
        """Make this the current version; returns its number, whatever ``found`` says.

        Who issued it is ``ca`` where its ``directory`` is given. Else it is what an earlier version
        of the same issuer says, or ``ca`` at a directory that is not known. ``targets`` have it
        in place: they are ``applied``, for whether it is served is still to be seen. An order
        under way is over: a target has what it was to bring, or something newer. Its key stays in
        its row. ``wishes`` are those of now, for it cannot be told to which it was made.
        """
        name, clean = found.name, fresh(found.leaf_pem, now)

        def work(connection: sa.Connection) -> int:
            self._leases.guard(connection, name)
            number = _number(connection, found)
            if number is None:
                keys = self._seal.keys(connection)
                whom = (ca, directory) if directory else _whom(connection, found, ca)
                number = _insert(connection, found, key_type, whom, wishes, now, keys)
            connection.execute(
                sa.update(lineage).where(lineage.c.name == name).values(current=number, **clean)
            )
            connection.execute(
                sa.update(order)
                .where(order.c.lineage == name, order.c.state == "live")
                .values(state="abandoned", outcome="a target has what it was for", ended_at=now)
            )
            connection.execute(USED, {"name": name, "pin": found.certificate.spki_sha256})
            for each in targets:
                _applied(connection, name, each, number, now)
            return number

        return self._database.write(work)


def _number(connection: sa.Connection, found: Bundle) -> int | None:
    """Of the version that this is, if the store knows it already."""
    number: int | None = connection.execute(
        sa.select(version.c.number).where(
            version.c.lineage == found.name,
            version.c.fingerprint == found.certificate.fingerprint,
        )
    ).scalar()
    return number


def _whom(connection: sa.Connection, found: Bundle, ca: str) -> tuple[str, str | None]:
    """Who has issued it, and the directory, as far as is known."""
    known = connection.execute(
        sa.select(version.c.ca, version.c.directory)
        .where(version.c.lineage == found.name, version.c.issuer == found.certificate.issuer)
        .order_by(version.c.number.desc())
    ).first()
    return (known.ca, known.directory) if known else (ca, None)


def _insert(
    connection: sa.Connection,
    found: Bundle,
    key_type: str,
    whom: tuple[str, str | None],
    wishes: str,
    now: datetime,
    keys: Keys,
) -> int:
    mine = version.c.lineage == found.name
    newest = connection.execute(sa.select(sa.func.max(version.c.number)).where(mine)).scalar()
    number = int(newest or 0) + 1
    connection.execute(
        sa.insert(version).values(
            lineage=found.name,
            number=number,
            ca=whom[0],
            directory=whom[1],
            key_type=key_type,
            wishes=wishes or None,
            key_pem=keys.seal(found.key_pem, of_version(found.name, number)),
            leaf_pem=found.leaf_pem,
            chain_pem=found.chain_pem,
            created_at=min(found.certificate.not_before, now),  # as far as anybody can tell
            **rows.facts_values(found.certificate),
        )
    )
    return number


def _applied(connection: sa.Connection, name: str, which: str, number: int, now: datetime) -> None:
    values = {
        "phase": "applied",
        "version": number,
        "failures": 0,
        "since": now,
        "retry_at": None,
        "failure": None,
    }
    mine = sa.and_(target.c.lineage == name, target.c.target == which)
    if not connection.execute(sa.update(target).where(mine).values(values)).rowcount:
        connection.execute(sa.insert(target).values(lineage=name, target=which, **values))
