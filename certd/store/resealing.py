"""All secrets of a database sealed with its newest key: some at a time, beside whoever works.

Killed at any instant, each value opens with a key that is there, and whoever opens the
database next goes on. A row of ``seal_key`` says how far it is: ``new``, while there are
values that it does not seal; ``sealed``, when none is left, and so no older key; ``whole``, when
nothing of what was not sealed is left in the file's free space either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from certd.errors import SecretError, StoreError
from certd.failpoint import failpoint
from certd.store.database import Database
from certd.store.envelope import (
    Keys,
    Place,
    of_account,
    of_authority,
    of_dns_record,
    of_next_account_key,
    of_next_key,
    of_order,
    of_version,
)
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
from certd.store.seal import Seal

log = logging.getLogger(__name__)

MOST_NAMED = 20  # values that do not open, in the log
AT_ONCE = 200  # values in a transaction: others wait for its end
_rowid: sa.ColumnClause[int] = sa.literal_column("rowid", sa.Integer)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column of secrets; ``again`` makes the new values of a row.

    ``beside`` are the columns that say to what its values are bound.
    """

    column: sa.Column[Any]
    beside: tuple[sa.Column[Any], ...]
    again: Callable[[Any, Keys], Mapping[str, str]]


def _bound(column: sa.Column[Any], place: Callable[..., Place], *by: sa.Column[Any]) -> Sealed:
    def again(row: Any, keys: Keys) -> Mapping[str, str]:
        where = place(*(getattr(row, each.name) for each in by))
        secret = keys.open(getattr(row, column.name), where)
        return {column.name: keys.seal(secret, where)}

    return Sealed(column, by, again)


def _token(row: Any, keys: Keys) -> Mapping[str, str]:
    text, answer = keys.open_token(row.token, row.key_authorization, row.lineage)
    name, kept = keys.seal_token(text, answer, row.lineage)
    return {"token": name, "key_authorization": kept}


# Every column that holds a secret: a test compares it with the tables, and with ``sealed``.
SEALED = (
    _bound(account.c.key_pem, of_account, account.c.directory),
    _bound(account.c.next_key_pem, of_next_account_key, account.c.directory),
    _bound(authority.c.key_pem, of_authority, authority.c.ca, authority.c.certificate_pem),
    _bound(next_key.c.key_pem, of_next_key, next_key.c.lineage, next_key.c.spki_sha256),
    _bound(version.c.key_pem, of_version, version.c.lineage, version.c.number),
    _bound(order.c.key_pem, of_order, order.c.lineage, order.c.csr_pem),
    _bound(
        dns_record.c.key_authorization,
        of_dns_record,
        dns_record.c.lineage,
        dns_record.c.account,
        dns_record.c.name,
        dns_record.c.value,
    ),
    Sealed(token.c.key_authorization, (token.c.token, token.c.lineage), _token),
)


def take_up(database: Database, seal: Seal) -> None:
    """Begin to seal what is to be sealed; go on with what was begun.

    Raises:
        StoreError, SecretError: the key is not there; nothing was changed.
    """
    state = database.read(lambda c: (seal.keys(c), _state(c))[1])
    if state == "" and not seal.wanted:
        return
    if state == "":
        by = seal.fetch()
        database.write(lambda c: seal.begin(c, by))
        failpoint("seal: there is a data key")
        log.info("the database is sealed with the key %s", by.id)
    _go_on(database, seal)  # what does not open has been logged, and holds up nothing else


def rotate(database: Database, seal: Seal) -> bool:
    """Seal everything with the first of the operator's keys, by a new data key.

    False: it was so already, and what had been begun is done. The database must have been
    taken up.

    Raises:
        StoreError: some values do not open; all others are sealed by then.
    """
    by = seal.fetch()
    if database.read(lambda c: c.execute(_NEWEST).scalar()) == by.id:
        return False
    database.write(lambda c: seal.begin(c, by))
    failpoint("seal: there is a data key")
    if lost := _go_on(database, seal):
        raise StoreError(
            f"{lost} values in the database do not open, and are left as they are",
            "the log names them; all others are sealed with the new key",
            "keep the older keys; `certd renew --force` makes another key for a certificate",
        )
    return True


_NEWEST = sa.select(seal_key.c.sealed_by).order_by(seal_key.c.number.desc()).limit(1)
_STATE = sa.select(seal_key.c.state).order_by(seal_key.c.number.desc()).limit(1)


def _state(connection: sa.Connection) -> str:
    return connection.execute(_STATE).scalar() or ""


def _go_on(database: Database, seal: Seal) -> int:
    """Returns how many values there are that do not open: their older key stays for them."""
    while database.read(_state) == "new":
        lost: list[str] = []
        for which in SEALED:
            last: int | None = 0
            while last is not None:
                last = _batch(database, seal, which, last, lost)
        database.write(lambda c: _finish(c, seal))
        if lost:
            for why in lost[:MOST_NAMED]:
                log.error("%s", why)
            return len(lost)
    if database.read(_state) == "sealed":
        _scrub(database)
    return 0


def _batch(database: Database, seal: Seal, which: Sealed, last: int, lost: list[str]) -> int | None:
    """Seal the next few values after row ``last``; returns the last row of them; None: no more.

    ``lost`` is told which do not open. Tokens are made anew with each order, and go.
    """

    def work(connection: sa.Connection) -> int | None:
        keys = seal.keys(connection)
        found = connection.execute(
            sa.select(_rowid, which.column, *which.beside)
            .where(_rowid > last, _not_sealed(which.column, keys.prefix))
            .order_by(_rowid)
            .limit(AT_ONCE)
        ).all()
        values = []
        for row in found:
            try:
                values.append({"which": row.rowid, **which.again(row, keys)})
            except SecretError as error:
                if which.column.table is token:
                    connection.execute(sa.delete(token).where(_rowid == row.rowid))
                else:
                    lost.append(str(error))
        if values:
            table = which.column.table
            connection.execute(sa.update(table).where(_rowid == sa.bindparam("which")), values)
        return int(found[-1].rowid) if len(found) == AT_ONCE else None

    after = database.write(work)
    failpoint("seal: some values are sealed")
    return after


def _finish(connection: sa.Connection, seal: Seal) -> None:
    """No older key is needed, unless somebody has written meanwhile what it seals."""
    prefix = seal.keys(connection).prefix
    if any(
        connection.execute(sa.select(_rowid).where(_not_sealed(each.column, prefix)).limit(1))
        .scalars()
        .all()
        for each in SEALED
    ):
        return
    older = seal_key.c.number < sa.select(sa.func.max(seal_key.c.number)).scalar_subquery()
    states = connection.execute(sa.select(seal_key.c.state).where(older)).scalars().all()
    # Before the first key there was what is not sealed.
    scrubbed = bool(states) and set(states) == {"whole"}
    connection.execute(sa.delete(seal_key).where(older))
    connection.execute(sa.update(seal_key).values(state="whole" if scrubbed else "sealed"))


def _not_sealed(column: sa.Column[Any], prefix: str) -> sa.ColumnElement[bool]:
    return sa.func.substr(column, 1, len(prefix)) != prefix


def _scrub(database: Database) -> None:
    """What stood in the file before it was sealed goes from its free space too."""
    failpoint("seal: all values are sealed")
    try:
        database.rebuild()
        database.write(lambda c: c.execute(sa.update(seal_key).values(state="whole")))
    except StoreError as error:
        log.warning("free space of the database may hold keys from before it was sealed: %s", error)
    else:
        log.warning(
            "all secrets in the database are sealed; copies made before are not: see "
            "`certd seal status`"
        )
