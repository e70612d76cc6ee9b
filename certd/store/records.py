"""The journal of TXT records that are, or may be, in zones: each is written down before it is made.

So whatever ends certd, what it has published is removed later, and nothing else ever is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from certd.errors import SecretError
from certd.known import Failure
from certd.model import DNSChallenge, TxtRecord
from certd.store import rows
from certd.store.database import Database
from certd.store.envelope import of_dns_record
from certd.store.schema import dns_record, lineage, order
from certd.store.seal import Seal

log = logging.getLogger(__name__)

LONG = timedelta(days=1)  # after which nobody waits for a record any more that has no order

_NEW = sqlite.insert(dns_record)
_PUBLISH = _NEW.on_conflict_do_update(
    index_elements=["lineage", "account", "name", "value"],
    set_={
        "unwanted": False,
        "zone": _NEW.excluded.zone,
        "domain": _NEW.excluded.domain,
        "key_authorization": _NEW.excluded.key_authorization,
        "failures": 0,
        "retry_at": None,
        "failure": None,
        # One that was to be removed is new.
        "created_at": sa.case(
            (dns_record.c.unwanted, _NEW.excluded.created_at), else_=dns_record.c.created_at
        ),
    },
)
_THIS = (
    (dns_record.c.account == sa.bindparam("its_account"))
    & (dns_record.c.name == sa.bindparam("its_name"))
    & (dns_record.c.value == sa.bindparam("its_value"))
)
_SINCE = sa.select(dns_record.c.created_at).where(
    _THIS, dns_record.c.lineage == sa.bindparam("owner")
)
_WANTED = sa.select(dns_record.c.lineage).where(_THIS, ~dns_record.c.unwanted).limit(1)
_WITHDRAW = sa.delete(dns_record).where(_THIS, dns_record.c.unwanted)
_LATER = sa.update(dns_record).where(_THIS, dns_record.c.unwanted)
_UNWANTED = sa.update(dns_record).values(unwanted=True)
# With whose orders somebody goes on: not with that of a certificate that is not wanted any more.
_AWAITED = (
    sa.select(order.c.lineage)
    .join(lineage, lineage.c.name == order.c.lineage)
    .where(order.c.state == "live", sa.or_(lineage.c.configured, lineage.c.holder.is_not(None)))
)
_ORPHANED = _UNWANTED.where(
    ~dns_record.c.unwanted,
    dns_record.c.lineage.not_in(_AWAITED),
    sa.or_(
        dns_record.c.created_at < sa.bindparam("long_ago", type_=dns_record.c.created_at.type),
        dns_record.c.lineage.in_(sa.select(lineage.c.name)),
    ),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """One of them. ``account`` is the [dns] table by which it was written."""

    lineage: str
    account: str
    record: TxtRecord
    created_at: datetime
    unwanted: bool = False
    failures: int = 0  # of its removal
    retry_at: datetime | None = None
    failure: Failure | None = None


class Records:
    def __init__(self, database: Database, seal: Seal, owner: str = "") -> None:
        """``owner`` keeps the records of a dry run apart from the daemon's."""
        self._database = database
        self._seal = seal
        self._owner = owner

    def apart(self, owner: str) -> Records:
        """The same journal, for somebody whose records are none of the others' business."""
        return Records(self._database, self._seal, owner)

    def publish(self, name: str, account: str, record: TxtRecord, now: datetime) -> datetime:
        """Before it is written there; returns since when it is, for it may be written again."""
        owner = self._owner + name
        values = {
            "lineage": owner,
            "account": account,
            "zone": record.zone,
            "name": record.name,
            "value": record.value,
            "ttl": record.ttl,
            "created_at": now,
            "unwanted": False,
            "failures": 0,
            "domain": record.challenge and record.challenge.domain,
            "key_authorization": None,
        }

        def work(connection: sa.Connection) -> datetime:
            if record.challenge:
                where = of_dns_record(owner, account, record.name, record.value)
                secret = record.challenge.key_authorization
                values["key_authorization"] = self._seal.keys(connection).seal(secret, where)
            connection.execute(_PUBLISH, values)
            since = connection.execute(_SINCE, {**_this(account, record), "owner": owner}).scalar()
            return since or now

        return self._database.write(work)

    def give_up(self, name: str) -> None:
        """Nobody waits for the records of this certificate any more: they are to be removed."""
        mine = dns_record.c.lineage == self._owner + name
        self._database.write(lambda c: c.execute(_UNWANTED.where(mine)))

    def give_up_one(self, name: str, account: str, record: TxtRecord) -> None:
        """The same for one of them."""
        mine = _UNWANTED.where(_THIS, dns_record.c.lineage == self._owner + name)
        self._database.write(lambda c: c.execute(mine, _this(account, record)))

    def give_up_orphaned(self, now: datetime) -> None:
        """The same for those of killed processes: nobody goes on with their orders."""
        if self._database.read(lambda c: c.execute(sa.select(dns_record.c.name).limit(1)).first()):
            self._database.write(lambda c: c.execute(_ORPHANED, {"long_ago": now - LONG}))

    def to_remove(self, now: datetime) -> list[Kept]:
        due = sa.or_(dns_record.c.retry_at.is_(None), dns_record.c.retry_at <= now)
        return self._some(sa.select(dns_record).where(dns_record.c.unwanted, due))

    def all(self) -> list[Kept]:
        return self._some(sa.select(dns_record))

    def of(self, name: str) -> list[Kept]:
        return self._some(sa.select(dns_record).where(dns_record.c.lineage == self._owner + name))

    def wanted(self, account: str, record: TxtRecord) -> bool:
        """Whether somebody else waits for the same."""
        values = _this(account, record)
        return self._database.read(lambda c: c.execute(_WANTED, values).first()) is not None

    def before(
        self, name: str, account: str, record: TxtRecord, *, zone: bool
    ) -> tuple[list[Kept], list[Kept]]:
        """Where a name, or a zone, has room for few values: what this one must wait for, and what
        its own certificate has written down there before it.

        Certificates take turns, in the order of their first: were two to have some of theirs
        there, each could wait for the other.
        """
        place = dns_record.c.zone == record.zone if zone else dns_record.c.name == record.name
        query = sa.select(dns_record).where(dns_record.c.account == account, place)
        line = sorted(self._some(query), key=lambda one: (one.created_at, one.record.value))
        wanted, mine = [one for one in line if not one.unwanted], self._owner + name
        turns = list(dict.fromkeys(one.lineage for one in wanted))
        first = turns[: turns.index(mine)] if mine in turns else turns
        others = [one for one in line if one.unwanted or one.lineage in first]
        own = [one for one in wanted if one.lineage == mine]
        at = next((at for at, one in enumerate(own) if one.record == record), len(own))
        return [one for one in others if one.record.value != record.value], own[:at]

    def withdraw(self, account: str, record: TxtRecord) -> None:
        """It is gone, or another's by now."""
        self._database.write(lambda c: c.execute(_WITHDRAW, _this(account, record)))

    def later(self, kept: Kept, failure: Failure, at: datetime) -> None:
        """It could not be removed; it is tried again then."""
        changed = {
            "failures": kept.failures + 1,
            "retry_at": at,
            "failure": rows.failure_text(failure),
        }
        values = _this(kept.account, kept.record)
        self._database.write(lambda c: c.execute(_LATER.values(changed), values))

    def _some(self, query: sa.Select[Any]) -> list[Kept]:
        def work(connection: sa.Connection) -> list[Kept]:
            return [
                Kept(
                    row.lineage,
                    row.account,
                    TxtRecord(
                        row.zone, row.name, row.value, row.ttl, self._challenge(connection, row)
                    ),
                    row.created_at,
                    row.unwanted,
                    row.failures,
                    row.retry_at,
                    rows.failure(row.failure),
                )
                for row in connection.execute(query).all()
            ]

        return self._database.read(work)

    def _challenge(self, connection: sa.Connection, row: Any) -> DNSChallenge | None:
        if row.key_authorization is None:
            return None
        where = of_dns_record(row.lineage, row.account, row.name, row.value)
        try:
            secret = self._seal.keys(connection).open(row.key_authorization, where)
        except SecretError as error:  # it must not keep the others from being removed
            log.warning("%s", error)
            return None
        return DNSChallenge(row.domain, secret)


def _this(account: str, record: TxtRecord) -> dict[str, str]:
    return {"its_account": account, "its_name": record.name, "its_value": record.value}
