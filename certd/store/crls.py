"""When which of the CAs' lists is looked at, and by which certificates it is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from certd.known import Failure
from certd.store import rows
from certd.store.database import Database
from certd.store.schema import crl, lineage, revocation, version

AT_ONCE = 500  # certificates whose leaf is read in one look

# What is current, in use, and not known to be revoked.
_CURRENT = sa.and_(
    lineage.c.configured,
    version.c.lineage == lineage.c.name,
    version.c.number == lineage.c.current,
    version.c.not_after > sa.bindparam("now", type_=version.c.not_after.type),
    ~sa.select(revocation.c.fingerprint)
    .where(revocation.c.fingerprint == version.c.fingerprint, revocation.c.revoked_at.is_not(None))
    .exists(),
)
# Of versions from before a version was kept together with what it names.
_UNREAD = (
    sa.select(version.c.lineage, version.c.number, version.c.leaf_pem)
    .where(_CURRENT, lineage.c.crl_url.is_(None))
    .limit(AT_ONCE)
)
_KEEP_URL = (
    sa.update(lineage)
    .where(lineage.c.name == sa.bindparam("which"), lineage.c.current == sa.bindparam("number"))
    .values(crl_url=sa.bindparam("url"))
)
_DUE = (
    sa.select(lineage.c.crl_url, sa.func.min(version.c.ca).label("ca"), crl.c.failures)
    .select_from(lineage.join(version, sa.true()).outerjoin(crl, crl.c.url == lineage.c.crl_url))
    .where(
        _CURRENT,
        lineage.c.crl_url != "",
        sa.or_(
            crl.c.look_at.is_(None),
            crl.c.look_at <= sa.bindparam("now", type_=crl.c.look_at.type),
        ),
    )
    .group_by(lineage.c.crl_url)
)
_NAMING = sa.select(
    version.c.lineage,
    version.c.number,
    version.c.serial,
    version.c.fingerprint,
    version.c.spki_sha256,
    version.c.issuer,
    version.c.ari_id,
).where(_CURRENT, lineage.c.crl_url == sa.bindparam("url"))
_PEMS = sa.select(version.c.leaf_pem, version.c.chain_pem).where(
    version.c.lineage == sa.bindparam("name"), version.c.number == sa.bindparam("number")
)
_KEEP = sa.insert(crl).prefix_with("OR REPLACE")


@dataclass(frozen=True, slots=True)
class DueList:
    """A list that is to be looked at; ``ca`` is the name of a CA whose leaves name it."""

    url: str
    ca: str
    failures: int


@dataclass(frozen=True, slots=True)
class Naming:
    """A version whose leaf names a list. ``signer`` is the same for the same issuer and key."""

    name: str
    number: int
    serial: int
    fingerprint: str
    spki_sha256: str
    signer: tuple[str, str]


class CRLs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def unread(self, now: datetime) -> list[tuple[str, int, str]]:
        """Name, number and leaf (PEM) of versions of which it is not known what they name."""
        found = self._database.read(lambda c: c.execute(_UNREAD, {"now": now}).all())
        return [(row.lineage, row.number, row.leaf_pem) for row in found]

    def keep_urls(self, urls: Iterable[tuple[str, int, str]]) -> None:
        """Name and number of versions, and the URL that each names, or ""."""
        values = [{"which": name, "number": number, "url": url} for name, number, url in urls]
        if values:
            self._database.write(lambda connection: connection.execute(_KEEP_URL, values))

    def due(self, now: datetime) -> list[DueList]:
        found = self._database.read(lambda c: c.execute(_DUE, {"now": now}).all())
        return [DueList(row.crl_url, row.ca, row.failures or 0) for row in found]

    def naming(self, url: str, now: datetime) -> list[Naming]:
        """The versions whose leaf names this list."""
        values = {"url": url, "now": now}
        found = self._database.read(lambda c: c.execute(_NAMING, values).all())
        return [
            Naming(
                row.lineage,
                row.number,
                int(row.serial, 16),
                row.fingerprint,
                row.spki_sha256,
                (row.issuer, (row.ari_id or "").partition(".")[0]),
            )
            for row in found
        ]

    def pems(self, name: str, number: int) -> tuple[str, str]:
        """The leaf of a version, and its intermediates."""
        values = {"name": name, "number": number}
        row = self._database.read(lambda c: c.execute(_PEMS, values).one())
        return row.leaf_pem, row.chain_pem

    def keep(
        self, url: str, look_at: datetime, failures: int = 0, failure: Failure | None = None
    ) -> None:
        """When it is to be looked at next, and what failed now."""
        values = {
            "url": url,
            "look_at": look_at,
            "failures": failures,
            "failure": rows.failure_text(failure),
        }
        self._database.write(lambda connection: connection.execute(_KEEP, values))
