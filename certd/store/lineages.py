"""What is wanted, what is current, what went wrong: lineages, versions, targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from certd.errors import StoreError
from certd.known import Failure, Lineage, RenewalInfo, TargetState
from certd.model import Bundle, CertificateSpec
from certd.store import parks, revocations, rows, wanted
from certd.store.database import Database
from certd.store.envelope import of_version
from certd.store.following import follow
from certd.store.leases import HELD, Leases, batched
from certd.store.schema import lineage, meta, next_key, order, park, target, version
from certd.store.seal import Seal

# Statements are made once: building one costs more than running it. The PEM texts stay
# out of the look at a lineage: 10,000 of them are most of what the database holds.
_FACTS = [c for c in version.c if c.name not in ("lineage", "key_pem", "leaf_pem", "chain_pem")]
_COLUMNS = [c for c in lineage.c if c.name not in ("current", "crl_url")]
_CURRENT = sa.and_(version.c.lineage == lineage.c.name, version.c.number == lineage.c.current)
_NEXT = [next_key.c.key_type.label("next_type"), next_key.c.spki_sha256.label("next_pin")]
_COMING = next_key.c.lineage == lineage.c.name
_NAME: sa.BindParameter[str] = sa.bindparam("name")

_LIVE = sa.and_(order.c.lineage == lineage.c.name, order.c.state == "live")
_ORDER = sa.select(sa.func.coalesce(order.c.url, "")).where(_LIVE).scalar_subquery()
_ASKED = sa.select(order.c.finalizing).where(_LIVE).scalar_subquery()


@dataclass(frozen=True)
class _Look:
    """The selects that make lineages, for one or for all."""

    lineages: sa.Select[Any]
    targets: sa.Select[Any]
    parks: sa.Select[Any]


_ALL = _Look(
    sa.select(
        *(*_COLUMNS, *_FACTS, *_NEXT),
        *(_ORDER.label("order_url"), _ASKED.label("order_asked"), revocations.ANY.label("revoked")),
    )
    .select_from(lineage.outerjoin(version, _CURRENT).outerjoin(next_key, _COMING))
    .where(lineage.c.configured)
    .order_by(lineage.c.name),
    sa.select(target),
    sa.select(park),
)
_ONE = _Look(
    _ALL.lineages.where(lineage.c.name == _NAME),
    _ALL.targets.where(target.c.lineage == _NAME),
    _ALL.parks.where(park.c.lineage.in_([_NAME, sa.literal("")])),
)
_BUNDLE = sa.select(version).where(
    version.c.lineage == _NAME, version.c.number == sa.bindparam("number")
)
_META = sa.select(meta.c.value).where(meta.c.key == _NAME)
_SINCE = sa.select(sa.func.count()).where(
    version.c.lineage == _NAME,
    version.c.created_at > sa.bindparam("instant", type_=version.c.created_at.type),
)
_NOW = sa.bindparam("now", type_=lineage.c.due_at.type)
# Due in the order of expiry: who is due longest is leased first. New ones come last.
_LONG = 10 * 366 * 86_400 * 1_000_000  # microseconds: more than any certificate has
_EXPIRES = sa.select(sa.type_coerce(version.c.not_after, sa.BigInteger)).where(_CURRENT)
_ASK_ALL = (
    sa.update(lineage)
    .where(lineage.c.configured)
    .values(
        ask_again=_NOW,
        due_at=sa.func.min(_NOW, sa.func.coalesce(_EXPIRES.scalar_subquery() - _LONG, _NOW)),
    )
)
_KEEP = sa.update(lineage).where(lineage.c.name == sa.bindparam("lease_name"), HELD)
_KEEP_TARGET = sa.update(target).where(
    target.c.lineage == _NAME, target.c.target == sa.bindparam("which")
)


class Lineages:
    def __init__(self, database: Database, leases: Leases, seal: Seal) -> None:
        self._database = database
        self._leases = leases
        self._seal = seal

    # -- what is wanted --------------------------------------------------------------------

    def take_over(
        self,
        specs: Mapping[str, CertificateSpec],
        digest: str,
        tables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make the rows follow the configuration; what has changed is due at once.

        A certificate that is no longer configured keeps its row, versions and keys: it
        only stops being renewed. ``digest`` is that of the file the specs were read from,
        ``tables`` has the one of each table that certificates refer to: what was done at a
        target that has changed is to be done again, and what failed with a CA or a responder
        that has changed need not wait.
        """
        if self.configuration() != digest:
            self._database.write(lambda connection: follow(connection, specs, digest, tables))

    def configuration(self) -> str | None:
        """The digest of the configuration that the rows follow."""
        return self._meta("configuration")

    def target_digest(self, name: str) -> str | None:
        """That of the target's settings that the rows follow; None: of none so far."""
        return self._meta(f"target {name}")

    def _meta(self, key: str) -> str | None:
        return self._database.read(lambda c: c.execute(_META, {"name": key}).scalar())

    def retry_now(self, name: str, now: datetime, *, force: bool, new_key: bool = False) -> None:
        """The operator's word: no back-off holds; with ``force`` the certificate is renewed too,
        and with ``new_key`` with another key.

        Whichever worker gets to it first does it.
        """

        def work(connection: sa.Connection) -> None:
            values: dict[str, Any] = {"retry_at": None, "held_until": None, "due_at": now}
            values |= {"forced": True} if force or new_key else {}
            values |= {"new_key": True} if new_key else {}
            connection.execute(sa.update(lineage).where(lineage.c.name == name).values(values))
            parks.lift(connection, [name])
            # Whom nobody asked is asked by all again, who may have been put off for good.
            if parks.lift_for_all(connection):
                connection.execute(
                    sa.update(lineage).where(lineage.c.configured).values(due_at=now)
                )
            connection.execute(
                sa.update(target)
                .where(target.c.lineage == name, target.c.retry_at.is_not(None))
                .values(retry_at=now)
            )

        self._database.write(work)

    def ask_all(self, now: datetime) -> None:
        """Look at every certificate, and ask the CAs for renewal windows afresh.

        What expires next is looked at first, for it may be that there is not room for all.
        """
        self._database.write(lambda connection: connection.execute(_ASK_ALL, {"now": now}))

    def ask_hub(self, names: Collection[str], now: datetime) -> None:
        """The hub that these come from may have others: it is asked at once."""
        change = sa.update(lineage).values(ask_again=now, retry_at=None, due_at=now)

        def work(connection: sa.Connection) -> None:
            for some in batched(list(names)):
                connection.execute(change.where(lineage.c.name.in_(some)))

        self._database.write(work)

    def ask_ca_again(self, ca: str, now: datetime) -> None:
        """The account there is another, or is put right: who was put off asks again."""

        def work(connection: sa.Connection) -> None:
            if parks.lift_for_all(connection, [ca]):
                change = sa.update(lineage).where(lineage.c.configured)
                connection.execute(change.values(due_at=now))

        self._database.write(work)

    # -- what is ---------------------------------------------------------------------------

    def get(self, name: str) -> Lineage:
        found = self._database.read(lambda connection: _lineages(connection, name))
        if not found:
            raise StoreError(f"{name} is not in the store", "the configuration is newer")
        return found[0][1]

    def all(self) -> list[tuple[CertificateSpec, Lineage]]:
        """Every configured certificate, by name."""
        return self._database.read(_lineages)

    def bundle(self, name: str, number: int) -> Bundle:
        def work(connection: sa.Connection) -> Bundle:
            row = connection.execute(_BUNDLE, {"name": name, "number": number}).first()
            if row is None:
                raise StoreError(f"version {number} of {name} is not in the store")
            key = self._seal.keys(connection).open(row.key_pem, of_version(name, number))
            return rows.bundle(row, key)

        return self._database.read(work)

    def versions_since(self, name: str, instant: datetime) -> int:
        """How many versions there have been since then."""
        values = {"name": name, "instant": instant}
        return int(self._database.read(lambda c: c.execute(_SINCE, values).scalar()) or 0)

    # -- what happened ---------------------------------------------------------------------

    def keep_failure(
        self,
        name: str,
        failure: Failure | None,
        failures: int,
        retry_at: datetime | None,
        challenge: str | None = None,
    ) -> None:
        """``challenge`` is by what the next order is to be proved; None: the first."""
        text = rows.failure_text(failure)
        values = {"failure": text, "failures": failures, "retry_at": retry_at}
        self._leases.write(name, _KEEP, values | {"challenge": challenge})

    def keep_challenge(self, name: str, challenge: str) -> None:
        """The next order is to be proved by this one, and not by those before it."""
        self._leases.write(name, _KEEP, {"challenge": challenge})

    def hold(self, name: str, until: datetime, why: str) -> None:
        """A CA's limit: no order before then."""
        self._leases.write(name, _KEEP, {"held_until": until, "held_for": why})

    def keep_renewal(
        self, name: str, info: RenewalInfo | None, ask_again: datetime, ask_failures: int
    ) -> None:
        """``info`` None forgets the window: the CA no longer stands by it. Deferred."""
        values = {
            "window_start": info and info.start,
            "window_end": info and info.end,
            "window_selected": info and info.selected,
            "explanation_url": info and info.explanation_url,
            "ask_again": ask_again,
            "ask_failures": ask_failures,
        }
        self._leases.write(name, _KEEP, values, defer=True)

    def keep_asked(self, name: str, asked: datetime, again: datetime) -> None:
        """The hub was asked at that instant, and is again at ``again``; or at once, where it has
        told of something new since then. Deferred.
        """
        kept, told = lineage.c.ask_again, lineage.c.due_at > asked
        at = sa.literal(again, kept.type)
        when = sa.case((told, sa.func.min(kept, at)), else_=at)
        self._leases.write(name, _KEEP.values(ask_again=when), {}, defer=True)

    def keep_target(self, name: str, state: TargetState, digest: str = "") -> None:
        """``digest`` is that of the settings it was come to with: others undo it."""
        values = rows.target_values(state)

        def work(connection: sa.Connection) -> None:
            self._leases.guard(connection, name)
            kept = connection.execute(_META, {"name": f"target {state.target}"}).scalar()
            done = state.phase in ("applied", "verified")
            if digest and kept not in (None, digest) and done:
                values["phase"] = "pending"
            changed = connection.execute(
                _KEEP_TARGET, {"name": name, "which": state.target, **values}
            )
            if not changed.rowcount:
                connection.execute(
                    sa.insert(target).values(lineage=name, target=state.target, **values)
                )

        self._database.write(work)


def _lineages(
    connection: sa.Connection, name: str | None = None
) -> list[tuple[CertificateSpec, Lineage]]:
    which = _ALL if name is None else _ONE
    values = {} if name is None else {"name": name}
    targets: dict[str, dict[str, TargetState]] = {}
    for row in connection.execute(which.targets, values):
        targets.setdefault(row.lineage, {})[row.target] = rows.target(row)
    parked = rows.parks(connection.execute(which.parks, values))
    found = connection.execute(which.lineages, values).all()
    revoked = revocations.of_lineage(connection, name) if any(r.revoked for r in found) else {}
    return [
        (
            wanted.spec(row.name, row.wanted),
            rows.lineage(
                row,
                targets.get(row.name, {}),
                None if row.order_url is None else (row.order_url, row.order_asked),
                parked,
                revoked.get(row.name, ()),
            ),
        )
        for row in found
    ]
