"""CAs that are not asked for a while, by one certificate or by all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from certd.known import Park
from certd.store import rows
from certd.store.database import Database
from certd.store.leases import Leases
from certd.store.schema import dns_record, lineage, park

_NEW = sqlite.insert(park)
# Two orders may come back with refusals at once: the longer one holds.
_KEEP = _NEW.on_conflict_do_update(
    index_elements=["lineage", "ca"],
    set_={"until": _NEW.excluded.until, "failure": _NEW.excluded.failure},
    where=sa.and_(
        park.c.until.is_not(None),
        sa.or_(_NEW.excluded.until.is_(None), _NEW.excluded.until > park.c.until),
    ),
)
_REMOVE_NOW = sa.update(dns_record).where(dns_record.c.retry_at.is_not(None)).values(retry_at=None)
_LIFT = sa.delete(park).where(park.c.lineage == sa.bindparam("which"))


class Parks:
    def __init__(self, database: Database, leases: Leases) -> None:
        self._database = database
        self._leases = leases

    def keep(self, name: str, ca: str, parked: Park) -> None:
        """This certificate, or everyone, does not ask this CA for a while."""
        values = {
            "lineage": "" if parked.everyone else name,
            "ca": ca,
            "until": parked.until,
            "failure": rows.failure_text(parked.failure),
        }

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            connection.execute(_KEEP, values)

        self._database.write(work)

    def lift(self, ca: str, names: Collection[str], now: datetime) -> None:
        """What kept this CA from being asked is mended: these certificates ask it at once."""

        def work(connection: sa.Connection) -> None:
            connection.execute(
                sa.delete(park).where(park.c.ca == ca, park.c.lineage.in_([*names, ""]))
            )
            connection.execute(
                sa.update(lineage)
                .where(lineage.c.name.in_(names), lineage.c.failure.is_not(None))
                .values(retry_at=None, due_at=now)
            )

        self._database.write(work)

    def forget(self, now: datetime) -> None:
        """Those that are over."""
        over = park.c.until <= now
        if self._database.read(lambda c: c.execute(sa.select(park.c.ca).where(over)).first()):
            self._database.write(lambda c: c.execute(sa.delete(park).where(over)))


def lift(connection: sa.Connection, names: Iterable[str]) -> None:
    """These certificates may ask whom they like again."""
    if which := [{"which": name} for name in names]:
        connection.execute(_LIFT, which)


def lift_for_all(connection: sa.Connection, cas: Collection[str] | None = None) -> bool:
    """These CAs, or all, may be asked again by everyone; whether one could not be.

    So may DNS providers, for what is still to be removed there too.
    """
    if cas is None or any(one.startswith("dns ") for one in cas):
        connection.execute(_REMOVE_NOW)
    which: sa.ColumnElement[bool] = sa.true()
    if cas is not None:
        zones = [park.c.ca.startswith(f"{one} ", autoescape=True) for one in cas]
        which = sa.or_(park.c.ca.in_(cas), *zones)
    return bool(connection.execute(sa.delete(park).where(park.c.lineage == "", which)).rowcount)
