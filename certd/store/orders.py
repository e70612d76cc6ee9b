"""Orders under way, and how they become versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from certd import x509
from certd.known import Order
from certd.model import Certificate, Identifier, KeyType
from certd.secrets import Secret
from certd.store import rows
from certd.store.database import Database
from certd.store.envelope import of_order, of_version
from certd.store.leases import HELD, Leases
from certd.store.next_keys import USED
from certd.store.revocations import also_compromised, refuse_compromised
from certd.store.schema import lineage, order, park, version
from certd.store.seal import Seal

# Statements are made once: building one costs more than running it.
_LIVE = sa.select(order).where(order.c.lineage == sa.bindparam("name"), order.c.state == "live")
# Which another process works on just now.
_ELSEWHERE = (
    sa.select(order.c.id)
    .join(lineage, lineage.c.name == order.c.lineage)
    .where(
        lineage.c.holder.is_not(None),
        lineage.c.holder != sa.bindparam("me"),
        order.c.lineage != sa.bindparam("name"),
        order.c.state == "live",
        order.c.ca == sa.bindparam("at"),
        order.c.identifiers == sa.bindparam("names"),
    )
    .limit(1)
)
_BEGIN = sa.insert(order)
_DONE = sa.update(order).where(order.c.id == sa.bindparam("which"))
_KEEP = _DONE.where(HELD)
_VERSION = sa.insert(version)
_BEGUN = sa.update(lineage).where(lineage.c.name == sa.bindparam("which"))
_UNPARK = sa.delete(park).where(
    park.c.lineage == sa.bindparam("name"), park.c.ca == sa.bindparam("ca")
)
_NEWEST = sa.select(sa.func.max(version.c.number)).where(version.c.lineage == sa.bindparam("name"))
# Whether another key was asked for after an order with the same one was begun.
_SAME_KEY = sa.select(lineage.c.name).where(
    lineage.c.name == sa.bindparam("name"),
    lineage.c.new_key,
    version.c.lineage == lineage.c.name,
    version.c.number == lineage.c.current,
    version.c.spki_sha256 == sa.bindparam("pin"),
)


class Orders:
    def __init__(self, database: Database, leases: Leases, seal: Seal) -> None:
        self._database = database
        self._leases = leases
        self._seal = seal

    def live(self, name: str) -> Order | None:
        """The order under way for this certificate, whoever began it."""

        def work(connection: sa.Connection) -> Order | None:
            row = connection.execute(_LIVE, {"name": name}).first()
            if row is None:
                return None
            place = of_order(name, row.csr_pem)
            return rows.order(row, self._seal.keys(connection).open(row.key_pem, place))

        return self._database.read(work)

    def finalizing(self, directory: str) -> list[str]:
        """The certificates that this CA may have issued, and that are still to be fetched."""
        query = sa.select(order.c.lineage).where(
            order.c.state == "live",
            order.c.finalizing.is_not(None),
            sa.or_(order.c.directory == directory, order.c.directory.is_(None)),
        )
        return list(self._database.read(lambda c: c.execute(query).scalars().all()))

    def begin(
        self,
        name: str,
        ca: str,
        directory: str,
        identifiers: tuple[Identifier, ...],
        key_type: KeyType,
        key_pem: Secret,
        csr_pem: str,
        replaces: str | None,
        now: datetime,
        *,
        profile: str | None = None,
        lifetime: timedelta | None = None,
        wishes: str = "",
    ) -> Order:
        """Write key and CSR down, before the CA hears of the order (invariant I2).

        ``directory`` is the CA's, for its name may mean another one tomorrow.

        Raises:
            CompromisedKey: the CSR is for a key that must not be used any more.
        """

        def work(connection: sa.Connection) -> int:
            self._leases.guard(connection, name)
            refuse_compromised(connection, csr_pem)
            result = connection.execute(
                _BEGIN,
                {
                    "lineage": name,
                    "ca": ca,
                    "identifiers": rows.identifiers_text(identifiers),
                    "key_type": key_type,
                    "key_pem": self._sealed(connection, name, key_pem, csr_pem),
                    "csr_pem": csr_pem,
                    "replaces": replaces,
                    "state": "live",
                    "created_at": now,
                    "directory": directory,
                    "profile": profile,
                    "lifetime": None if lifetime is None else lifetime.total_seconds(),
                    "wishes": wishes or None,
                },
            )
            connection.execute(_BEGUN, {"which": name, "retry_at": None, "held_until": None})
            return int(result.lastrowid)

        id = self._database.write(work)
        return Order(
            id,
            name,
            ca,
            identifiers,
            key_type,
            key_pem,
            csr_pem,
            replaces,
            None,
            now,
            directory,
            profile=profile,
            lifetime=lifetime,
            wishes=wishes,
        )

    def keep_url(self, live: Order, url: str) -> None:
        """Where the CA keeps the order: what a restart goes on from (invariant I3)."""
        self._update(live, {"url": url})

    def without_replaces(self, live: Order) -> None:
        self._update(live, {"replaces": None})

    def without_lifetime(self, live: Order) -> Order:
        self._update(live, {"lifetime": None})
        return replace(live, lifetime=None)

    def with_profile(self, live: Order, profile: str | None) -> Order:
        self._update(live, {"profile": profile})
        return replace(live, profile=profile)

    def with_new_key(self, live: Order, key_pem: Secret, csr_pem: str) -> Order:
        """The CA refused the CSR: nothing was signed for the key before."""

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, live.name)
            refuse_compromised(connection, csr_pem)
            sealed = self._sealed(connection, live.name, key_pem, csr_pem)
            connection.execute(_DONE, {"which": live.id, "key_pem": sealed, "csr_pem": csr_pem})

        self._database.write(work)
        return replace(live, key_pem=key_pem, csr_pem=csr_pem)

    def elsewhere(self, name: str, ca: str, identifiers: tuple[Identifier, ...]) -> bool:
        """Whether another process has an order for just these names there: a pair's other leaf."""
        names = rows.identifiers_text(identifiers)
        values = {"me": self._leases.me, "name": name, "at": ca, "names": names}
        return self._database.read(lambda c: c.execute(_ELSEWHERE, values).first() is not None)

    def refuse_compromised(self, csr_pem: str) -> None:
        """Raise CompromisedKey if this signing request is for such a key."""
        self._database.read(lambda connection: refuse_compromised(connection, csr_pem))

    def keep_finalizing(self, live: Order, failed: int) -> Order:
        """Before finalize is asked for, and after each attempt since that failed.

        The CA may have issued: for a while nobody else is asked for the same.

        Raises:
            CompromisedKey: the key must not be used any more, and was not asked for so far.
        """
        if live.finalizing is None:
            self.refuse_compromised(live.csr_pem)
        self._update(live, {"finalizing": failed})
        return replace(live, finalizing=failed)

    def end(self, live: Order, state: str, outcome: str, now: datetime) -> None:
        """``state`` is failed or abandoned; its key stays, should the CA have issued after all."""
        self._update(live, {"state": state, "outcome": outcome, "ended_at": now})

    def complete(
        self, live: Order, leaf_pem: str, chain_pem: str, facts: Certificate, now: datetime
    ) -> int:
        """The order's certificate becomes the current version; returns its number.

        One transaction: nothing after this can lose the certificate.
        """
        clean = fresh(leaf_pem, now)

        def work(connection: sa.Connection) -> int:
            self._leases.guard(connection, live.name)
            newest = connection.execute(_NEWEST, {"name": live.name}).scalar()
            number = int(newest or 0) + 1
            connection.execute(
                _VERSION,
                {
                    "lineage": live.name,
                    "number": number,
                    "ca": live.ca,
                    "directory": live.directory,
                    "key_type": live.key_type,
                    "key_pem": self._seal.keys(connection).seal(
                        live.key_pem, of_version(live.name, number)
                    ),
                    "leaf_pem": leaf_pem,
                    "chain_pem": chain_pem,
                    "created_at": now,
                    "profile": live.profile,
                    "wishes": live.wishes or None,
                    **rows.facts_values(facts),
                },
            )
            values = {"which": live.name, "current": number, **clean}
            key = {"name": live.name, "pin": facts.spki_sha256}
            if connection.execute(_SAME_KEY, key).first():
                values |= {"forced": True, "new_key": True}
            connection.execute(_BEGUN, values)
            connection.execute(USED, key)
            ended = {"state": "done", "outcome": "issued", "ended_at": now, "key_pem": None}
            connection.execute(_DONE, {"which": live.id, **ended})
            connection.execute(_UNPARK, {"name": live.name, "ca": live.ca})
            also_compromised(connection, live.name, number, facts, now)
            return number

        return self._database.write(work)

    def _sealed(self, connection: sa.Connection, name: str, key_pem: Secret, csr_pem: str) -> str:
        return self._seal.keys(connection).seal(key_pem, of_order(name, csr_pem))

    def _update(self, live: Order, values: dict[str, Any]) -> None:
        self._leases.write(live.name, _KEEP, {"which": live.id, **values})


def fresh(leaf_pem: str, now: datetime) -> dict[str, Any]:
    """What a lineage starts with when it has a new version: nothing asked, nothing failed."""
    return {
        "forced": False,
        "new_key": False,
        "failures": 0,
        "retry_at": None,
        "failure": None,
        "window_start": None,
        "window_end": None,
        "window_selected": None,
        "explanation_url": None,
        "ask_again": now,
        "ask_failures": 0,
        "held_until": None,
        "held_for": None,
        "challenge": None,
        "crl_url": x509.crl_url(leaf_pem),
    }
