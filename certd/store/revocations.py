"""What is revoked or is to be, and the keys that must never be used again.

Nothing here needs a lease: what was revoked stays so, whoever works on the certificate.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certd import x509
from certd.errors import CertdError
from certd.known import (
    KEY_COMPROMISE,
    Failure,
    Revocation,
    Signer,
    Version,
)
from certd.model import Certificate
from certd.store import rows
from certd.store.database import Database
from certd.store.schema import compromised_key, lineage, next_key, revocation, version

# Statements are made once: building one costs more than running it.
_COMPROMISED = sa.select(compromised_key.c.lineage, compromised_key.c.since).where(
    compromised_key.c.spki_sha256 == sa.bindparam("pin")
)
# Hardly any certificate has one: whether there is any costs less than reading them.
ANY = sa.select(revocation.c.fingerprint).where(revocation.c.lineage == lineage.c.name).exists()
_ANY = sa.select(sa.select(compromised_key.c.spki_sha256).exists())
_COMPROMISE = sa.insert(compromised_key).prefix_with("OR IGNORE")
_KEEP = sa.insert(revocation).prefix_with("OR REPLACE")
_WHICH = sa.update(revocation).where(revocation.c.fingerprint == sa.bindparam("which"))
_EVERY = sa.select(revocation, version.c.not_after.label("ends")).outerjoin(
    version, (version.c.lineage == revocation.c.lineage) & (version.c.number == revocation.c.number)
)
_ONE = _EVERY.where(revocation.c.fingerprint == sa.bindparam("fingerprint"))
_PENDING = _EVERY.where(revocation.c.revoked_at.is_(None))
# Whatever is configured about keys, the next one of these is another.
_NEW_KEY = (
    sa.update(lineage)
    .where(
        sa.select(version.c.number)
        .where(
            version.c.lineage == lineage.c.name,
            version.c.number == lineage.c.current,
            version.c.spki_sha256 == sa.bindparam("pin"),
        )
        .exists()
    )
    .values(new_key=True)
)
_NO_NEXT_KEY = sa.delete(next_key).where(next_key.c.spki_sha256 == sa.bindparam("pin"))
# A version that is current is replaced at once, whatever a back-off says.
_REPLACE = (
    sa.update(lineage)
    .where(
        lineage.c.name == sa.bindparam("which"),
        lineage.c.configured,
        lineage.c.current == sa.bindparam("number"),
    )
    .values(retry_at=None, held_until=None, due_at=sa.bindparam("at", type_=lineage.c.due_at.type))
)


class CompromisedKey(CertdError):
    """A certificate is wanted for a key that strangers may have."""


class Revocations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, name: str, number: int | None) -> tuple[Version, bool] | None:
        """A version, or what is current for None, and whether it is in use: current, and
        configured. Also of a certificate that is not configured any more.
        """
        which = lineage.c.current if number is None else sa.literal(number)
        statement = (
            sa.select(version, (lineage.c.configured & (lineage.c.current == which)).label("used"))
            .join(lineage, lineage.c.name == version.c.lineage)
            .where(lineage.c.name == name, version.c.number == which)
        )
        row = self._database.read(lambda connection: connection.execute(statement).first())
        return (rows.version(row), bool(row.used)) if row else None

    def numbers(self, name: str) -> list[int]:
        """All versions there are of it; none: it was never issued, or is not known."""
        statement = sa.select(version.c.number).where(version.c.lineage == name)
        found = self._database.read(lambda c: c.execute(statement).scalars().all())
        return sorted(found)

    def same_key(self, pin: str, now: datetime) -> list[tuple[str, Version]]:
        """The versions, of whatever certificate, with this SPKI pin that are still valid."""
        return self._database.read(lambda connection: _having(connection, pin, now))

    def intend(
        self, name: str, which: Version, reason: str, signer: Signer, now: datetime
    ) -> list[Revocation]:
        """Write down what the CAs are about to be asked for, and return it.

        A compromised key is so whatever they answer: it is never used again, and each
        version that has it, of whatever certificate, is to be revoked and replaced.
        """
        pin = which.certificate.spki_sha256

        def work(connection: sa.Connection) -> list[Revocation]:
            wanted = [(name, which)]
            if reason == KEY_COMPROMISE:
                # Here, for whatever is issued for this key later finds that it is given up.
                wanted = _having(connection, pin, now)
                _compromise(connection, pin, name, now)
            return [
                _intend(connection, owner, each.number, each.certificate, reason, signer, now)
                for owner, each in wanted
            ]

        return self._database.write(work)

    def pending(self, now: datetime | None = None) -> list[Revocation]:
        """Those that the CA has not done yet; with ``now``, those to be tried again by then."""
        found = self._database.read(lambda connection: connection.execute(_PENDING).all())
        every = map(rows.revocation, found)
        if now is None:
            return list(every)
        return [
            one for one in every if one.pending(now) and not (one.retry_at and one.retry_at > now)
        ]

    def done(self, asked: Revocation, now: datetime) -> None:
        """The CA has revoked it: what is current is to be replaced at once."""

        def work(connection: sa.Connection) -> None:
            values = {"revoked_at": now, "failures": 0, "retry_at": None, "failure": None}
            connection.execute(_WHICH, {"which": asked.fingerprint, **values})
            _replace(connection, asked.name, asked.number, now, force=True)

        self._database.write(work)

    def failed(self, asked: Revocation, failure: Failure, retry_at: datetime) -> None:
        values = {
            "failures": asked.failures + 1,
            "retry_at": retry_at,
            "failure": rows.failure_text(failure),
        }
        self._database.write(lambda c: c.execute(_WHICH, {"which": asked.fingerprint, **values}))

    def drop(self, asked: Revocation) -> None:
        """The CA has refused, and the operator knows it. A compromised key stays so."""
        self._database.write(
            lambda c: c.execute(
                sa.delete(revocation).where(
                    revocation.c.fingerprint == asked.fingerprint,
                    revocation.c.revoked_at.is_(None),
                )
            )
        )

    def noticed(
        self, found: Iterable[Revocation], pins: Iterable[tuple[str, str, datetime]]
    ) -> None:
        """The CA has revoked these by itself.

        ``pins``: compromised keys, who had them, and since when: whatever else has them is to
        be revoked too.
        """
        listed, compromised = list(found), list(pins)

        def work(connection: sa.Connection) -> None:
            for one in listed:
                there = connection.execute(_ONE, {"fingerprint": one.fingerprint}).first()
                if there is None:
                    _keep(connection, one)
                else:  # we had asked for it
                    values = {"revoked_at": one.revoked_at, "failure": None, "retry_at": None}
                    connection.execute(_WHICH, {"which": one.fingerprint, **values})
                _replace(connection, one.name, one.number, one.asked_at, force=False)
            for pin, name, now in compromised:
                _compromise(connection, pin, name, now)
                for owner, each in _having(connection, pin, now):
                    facts = each.certificate
                    _intend(connection, owner, each.number, facts, KEY_COMPROMISE, "account", now)

        if listed:
            self._database.write(work)

    def forbids(self, facts: Certificate) -> str:
        """Why a certificate must not be used; "" if it may."""

        def look(connection: sa.Connection) -> str:
            row = connection.execute(_ONE, {"fingerprint": facts.fingerprint}).first()
            if row is not None and rows.revocation(row).final:
                return f"it {rows.revocation(row)}"
            key = connection.execute(_COMPROMISED, {"pin": facts.spki_sha256}).first()
            return f"its private key is compromised since {key.since:%F}" if key else ""

        return self._database.read(look)


def _having(connection: sa.Connection, pin: str, now: datetime) -> list[tuple[str, Version]]:
    """The versions with this SPKI pin that are still valid, with whose they are."""
    which = sa.select(version).where(version.c.spki_sha256 == pin, version.c.not_after > now)
    return [(row.lineage, rows.version(row)) for row in connection.execute(which)]


def refuse_compromised(connection: sa.Connection, csr_pem: str) -> None:
    """
    Raises:
        CompromisedKey: strangers may have the key that this signing request is for.
    """
    if not connection.execute(_ANY).scalar():  # as nearly everywhere: spare the parsing
        return
    pin = x509.pin_of_csr(csr_pem)
    found = connection.execute(_COMPROMISED, {"pin": pin}).first()
    if found is not None:
        raise CompromisedKey(
            f"the key with the SPKI pin {pin} must not be used any more",
            f"{found.lineage} had it, and it is compromised since {found.since:%F %H:%MZ}",
            "make another key; where the signing request is your own, make that anew too",
        )


def also_compromised(
    connection: sa.Connection, name: str, number: int, facts: Certificate, now: datetime
) -> None:
    """A version just issued for a key that was given up meanwhile is revoked as well."""
    if connection.execute(_COMPROMISED, {"pin": facts.spki_sha256}).first() is not None:
        _intend(connection, name, number, facts, KEY_COMPROMISE, "account", now)
        connection.execute(_NEW_KEY, {"pin": facts.spki_sha256})


def of_lineage(connection: sa.Connection, name: str | None) -> dict[str, list[Revocation]]:
    """By certificate; of this one, or of all for None."""
    which = sa.true() if name is None else revocation.c.lineage == name
    found: dict[str, list[Revocation]] = {}
    for row in connection.execute(_EVERY.where(which)):
        found.setdefault(row.lineage, []).append(rows.revocation(row))
    return found


def _intend(
    connection: sa.Connection,
    name: str,
    number: int,
    facts: Certificate,
    reason: str,
    signer: Signer,
    now: datetime,
) -> Revocation:
    wanted = Revocation(facts.fingerprint, name, number, reason, signer, now)
    there = connection.execute(_ONE, {"fingerprint": facts.fingerprint}).first()
    if there is not None and there.revoked_at is not None:
        return rows.revocation(there)
    _keep(connection, wanted)
    if wanted.final:
        _replace(connection, name, number, now, force=True)
    return wanted


def _keep(connection: sa.Connection, one: Revocation) -> None:
    values: dict[str, Any] = {
        "fingerprint": one.fingerprint,
        "lineage": one.name,
        "number": one.number,
        "reason": one.reason,
        "signer": one.signer,
        "asked_at": one.asked_at,
        "revoked_at": one.revoked_at,
        "failures": one.failures,
    }
    connection.execute(_KEEP, values)


def _compromise(connection: sa.Connection, pin: str, name: str, now: datetime) -> None:
    connection.execute(_COMPROMISE, {"spki_sha256": pin, "lineage": name, "since": now})
    connection.execute(_NEW_KEY, {"pin": pin})
    connection.execute(_NO_NEXT_KEY, {"pin": pin})


def _replace(
    connection: sa.Connection, name: str, number: int, now: datetime, *, force: bool
) -> None:
    """``force``: the operator has said so, which no limit of our own overrules."""
    statement = _REPLACE.values(forced=True) if force else _REPLACE
    connection.execute(statement, {"which": name, "number": number, "at": now})
