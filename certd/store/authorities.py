"""Roots and intermediates of our own, with their keys, and what they have signed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, cast

import sqlalchemy as sa

from certd.failpoint import failpoint
from certd.known import Authority
from certd.store.database import Database
from certd.store.envelope import Keys, of_authority
from certd.store.schema import authority, issued
from certd.store.seal import Seal

Role = Literal["root", "intermediate"]

_NEWEST = (
    sa.select(authority)
    .where(authority.c.ca == sa.bindparam("ca"), authority.c.role == sa.bindparam("role"))
    .order_by(authority.c.id.desc())
    .limit(1)
)
_ROOTS = (
    sa.select(authority)
    .where(authority.c.ca == sa.bindparam("ca"), authority.c.role == "root")
    .order_by(authority.c.id.desc())
)
_ISSUED = sa.select(issued.c.chain_pem).where(issued.c.url == sa.bindparam("url"))


class Authorities:
    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def newest(self, ca: str, role: Role) -> Authority | None:
        """The one that signs now."""

        def work(connection: sa.Connection) -> Authority | None:
            row = _newest(connection, ca, role)
            return row and self._of(connection, row)

        return self._database.read(work)

    def roots(self, ca: str) -> list[tuple[str, datetime]]:
        """All that it ever had, the newest first: in PEM, and their ends.

        That needs no key, and no seal.
        """
        found = self._database.read(lambda c: c.execute(_ROOTS, {"ca": ca}).all())
        return [(row.certificate_pem, row.not_after) for row in found]

    def keep(self, *made: Authority, instead_of: Authority | None) -> bool:
        """Write these down, unless another has come meanwhile: the newest is ``instead_of``.

        They are of one CA, and the first of them is the one that has been looked for.
        """
        ca, role = made[0].ca, made[0].role

        def work(connection: sa.Connection) -> bool:
            there = _newest(connection, ca, role)
            if (there and there.id) != (instead_of and instead_of.id):
                return False
            keys = self._seal.keys(connection)
            connection.execute(sa.insert(authority), [_values(one, keys) for one in made])
            return True

        kept = self._database.write(work)
        failpoint(f"authority: {role} is kept")
        return kept

    def issued(self, url: str) -> str | None:
        """The leaf with its chain, in PEM, that this order got; None: nothing yet."""
        return self._database.read(lambda c: c.execute(_ISSUED, {"url": url}).scalar())

    def keep_issued(self, url: str, chain_pem: str, not_after: datetime) -> str:
        """Write it down unless the order has got one; returns the one that is there now."""

        def work(connection: sa.Connection) -> str:
            there = connection.execute(_ISSUED, {"url": url}).scalar()
            if there is not None:
                return str(there)
            values = {"url": url, "chain_pem": chain_pem, "not_after": not_after}
            connection.execute(sa.insert(issued), values)
            return chain_pem

        return self._database.write(work)

    def forget_expired(self, now: datetime) -> None:
        """What was signed for orders that are long over."""
        over = issued.c.not_after <= now
        if self._database.read(lambda c: c.execute(sa.select(issued.c.url).where(over)).first()):
            self._database.write(lambda c: c.execute(sa.delete(issued).where(over)))

    def _of(self, connection: sa.Connection, row: Any) -> Authority:
        place = of_authority(row.ca, row.certificate_pem)
        return Authority(
            row.ca,
            cast(Role, row.role),
            self._seal.keys(connection).open(row.key_pem, place),
            row.certificate_pem,
            row.not_before,
            row.not_after,
            row.id,
        )


def _newest(connection: sa.Connection, ca: str, role: Role) -> Any:
    """Its row, or None."""
    return connection.execute(_NEWEST, {"ca": ca, "role": role}).first()


def _values(made: Authority, keys: Keys) -> dict[str, Any]:
    return {
        "ca": made.ca,
        "role": made.role,
        "key_pem": keys.seal(made.key_pem, of_authority(made.ca, made.certificate_pem)),
        "certificate_pem": made.certificate_pem,
        "not_before": made.not_before,
        "not_after": made.not_after,
    }
