"""Roots and intermediates of our own, with their keys, and what they have signed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, cast

import sqlalchemy as sa

from certd.failpoint import failpoint
from certd.model import Authority
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.schema import authority, issued

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
    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, ca: str, role: Role) -> Authority | None:
        """The one that signs now."""
        return self._database.read(lambda connection: _newest(connection, ca, role))

    def roots(self, ca: str) -> list[Authority]:
        """All that it ever had, the newest first."""
        return self._database.read(
            lambda c: [_authority(row) for row in c.execute(_ROOTS, {"ca": ca})]
        )

    def keep(self, *made: Authority, instead_of: Authority | None) -> bool:
        """Write these down, unless another has come meanwhile: the newest is ``instead_of``.

        They are of one CA, and the first of them is the one that has been looked for.
        """
        ca, role = made[0].ca, made[0].role

        def work(connection: sa.Connection) -> bool:
            there = _newest(connection, ca, role)
            if (there and there.id) != (instead_of and instead_of.id):
                return False
            connection.execute(sa.insert(authority), [_values(one) for one in made])
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


def _newest(connection: sa.Connection, ca: str, role: Role) -> Authority | None:
    row = connection.execute(_NEWEST, {"ca": ca, "role": role}).first()
    return None if row is None else _authority(row)


def _authority(row: Any) -> Authority:
    return Authority(
        row.ca,
        cast(Role, row.role),
        Secret(row.key_pem),
        row.certificate_pem,
        row.not_before,
        row.not_after,
        row.id,
    )


def _values(made: Authority) -> dict[str, Any]:
    return {
        "ca": made.ca,
        "role": made.role,
        "key_pem": made.key_pem.reveal(),
        "certificate_pem": made.certificate_pem,
        "not_before": made.not_before,
        "not_after": made.not_after,
    }
