"""A look at all lineages by the standard library alone, for ``certd status`` and ``plan``.

Importing SQLAlchemy takes longer than reading 10,000 certificates. What is wanted here is
what ``Lineages.all`` reads; a test holds the two together.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections import namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from certd import known
from certd.errors import StoreError
from certd.known import Failure, Lineage, TargetState
from certd.model import CertificateSpec
from certd.store import rows, wanted
from certd.store.changes import changes
from certd.store.files import HEAD, advice, database_file, newer

_INSTANTS = {
    *("retry_at", "window_start", "window_end", "window_selected", "ask_again", "since"),
    *("not_before", "not_after", "until", "held_until", "asked_at", "revoked_at", "look_at"),
}
_LINEAGE = (
    *("name", "wanted", "configured", "forced", "failures", "retry_at", "failure"),
    *("window_start", "window_end", "window_selected", "explanation_url", "ask_again"),
    "ask_failures",
    *("held_until", "held_for", "new_key", "challenge"),
)
_REVOCATION = (
    *("fingerprint", "lineage", "number", "reason", "signer", "asked_at", "revoked_at"),
    *("failures", "retry_at", "failure"),
)
_VERSION = (
    *("number", "ca", "directory", "key_type", "identifiers", "not_before", "not_after", "serial"),
    *("fingerprint", "spki_sha256", "ari_id", "issuer", "usages", "profile", "wishes"),
)
_NEXT = ("next_type", "next_pin")
_TARGET = (
    *("lineage", "target", "phase", "version", "serving", "failures", "since", "retry_at"),
    *("failure", "until"),
)
_PARK = ("lineage", "ca", "until", "failure")


def _columns(table: str, names: tuple[str, ...]) -> str:
    """``[instant]`` calls the converter; sqlite3 strips it from the name again."""
    return ", ".join(
        f'{table}.{name} AS "{name} [instant]"' if name in _INSTANTS else f"{table}.{name}"
        for name in names
    )


# Column names of ours only: nothing in these comes from outside.
_LINEAGES = (
    f"SELECT {_columns('lineage', _LINEAGE)}, {_columns('version', _VERSION)}, "  # noqa: S608
    "next_key.key_type, next_key.spki_sha256 FROM lineage "
    "LEFT JOIN version ON version.lineage = lineage.name AND version.number = lineage.current "
    "LEFT JOIN next_key ON next_key.lineage = lineage.name"
)
_PARKS = f"SELECT {_columns('park', _PARK)} FROM park"  # noqa: S608
_TARGETS = f"SELECT {_columns('target', _TARGET)} FROM target"  # noqa: S608
_REVOCATIONS = (
    f"SELECT {_columns('revocation', _REVOCATION)}, "  # noqa: S608
    'version.not_after AS "ends [instant]" FROM revocation LEFT JOIN version '
    "ON version.lineage = revocation.lineage AND version.number = revocation.number"
)
_ORDERS = (
    "SELECT lineage, coalesce(url, ''), finalizing FROM certificate_order WHERE state = 'live'"
)
_PEMS = "SELECT leaf_pem, chain_pem FROM version WHERE lineage = ? AND number = ?"
_CRL = (
    f"SELECT {_columns('crl', ('url', 'look_at', 'failure'))} "  # noqa: S608
    "FROM lineage JOIN crl ON crl.url = lineage.crl_url WHERE lineage.name = ?"
)
_STUCK = (
    f"SELECT {_columns('dns_record', ('name', 'account', 'retry_at', 'failure'))} "  # noqa: S608
    "FROM dns_record WHERE unwanted AND failure IS NOT NULL ORDER BY name, value"
)
_ROOTS = (
    f"SELECT {_columns('authority', ('ca', 'not_after'))} "  # noqa: S608
    "FROM authority WHERE role = 'root' ORDER BY id"
)
_EMPTY = "SELECT count(*) = 0 FROM sqlite_master"
_REVISION = "SELECT version_num FROM alembic_version"
_META = "SELECT key, value FROM meta"

Row = namedtuple("Row", (*_LINEAGE, *_VERSION, *_NEXT))  # type: ignore[misc]  # the names are above
Target = namedtuple("Target", _TARGET)  # type: ignore[misc]
Park = namedtuple("Park", _PARK)  # type: ignore[misc]
Revocation = namedtuple("Revocation", (*_REVOCATION, "ends"))  # type: ignore[misc]


def _instant(text: bytes) -> Any:
    # Exact until the year 2242, and quicker than a sum of EPOCH and a timedelta.
    return datetime.fromtimestamp(int(text) / 1e6, UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store has of each certificate, by name, and of the configuration it follows."""

    wanted: list[tuple[CertificateSpec, Lineage]] = field(default_factory=list)
    left: list[Lineage] = field(default_factory=list)  # configured once, and not any more
    digests: Mapping[str, str] = field(default_factory=dict)  # of its tables

    @property
    def configuration(self) -> str | None:
        """The digest of that file."""
        return self.digests.get("configuration")

    def as_under(
        self, specs: Mapping[str, CertificateSpec], tables: Mapping[str, str]
    ) -> list[tuple[CertificateSpec, Lineage]]:
        """What would be wanted after ``Lineages.take_over`` of these."""
        lineages = {lineage.name: lineage for lineage in self.left}
        lineages |= {lineage.name: lineage for _, lineage in self.wanted}
        found = changes(specs, tables, {spec.name: spec for spec, _ in self.wanted}, self.digests)
        return [
            (spec, found.applied(lineages.get(name, Lineage(name))))
            for name, spec in sorted(specs.items())
        ]


def glance(state: Path, name: str | None = None) -> Seen:
    """What there is of all certificates, or of this one only: 10,000 take half a second.

    Where there is no database yet, or one that nothing was written to, there is nothing.
    Writes nothing.

    Raises:
        StoreError: the database cannot be read.
    """
    with _reading(state) as connection:
        return _seen(connection, name) if connection else Seen()


def chain(state: Path, name: str, number: int) -> str:
    """The intermediates of a version, as PEM; "" where there are none.

    Raises:
        StoreError: the database cannot be read.
    """
    return pems(state, name, number)[1]


def pems(state: Path, name: str, number: int) -> tuple[str, str]:
    """The leaf of a version, and its intermediates: all of it that is public.

    Raises:
        StoreError: the database cannot be read.
    """
    with _reading(state) as connection:
        row = connection.execute(_PEMS, (name, number)).fetchone() if connection else None
        return (str(row[0]), str(row[1])) if row else ("", "")


class Stuck(NamedTuple):
    """A record that is still in its zone. ``account`` is the [dns] table."""

    name: str
    account: str
    retry_at: datetime | None
    failure: Failure


def crl(state: Path, name: str) -> tuple[str, datetime, Failure | None] | None:
    """The list that the current leaf names, when it is looked at next, and what failed there.

    None: it names none, or nobody has looked yet.
    """
    with _reading(state) as connection:
        row = connection.execute(_CRL, (name,)).fetchone() if connection else None
        return (row[0], row[1], rows.failure(row[2])) if row else None


def roots(state: Path) -> dict[str, datetime]:
    """Until when the newest root of each CA of certd's own is valid.

    Raises:
        StoreError: the database cannot be read.
    """
    with _reading(state) as connection:
        return dict(connection.execute(_ROOTS).fetchall()) if connection else {}


def stuck(state: Path) -> list[Stuck]:
    """The records that could not be removed from their zones so far.

    Raises:
        StoreError: the database cannot be read.
    """
    with _reading(state) as connection:
        found = connection.execute(_STUCK).fetchall() if connection else []
    return [
        Stuck(name, account, retry_at, failure)
        for name, account, retry_at, text in found
        if (failure := rows.failure(text))
    ]


@contextmanager
def _reading(state: Path) -> Iterator[sqlite3.Connection | None]:
    """One view of the database, whoever writes meanwhile; None: it is not there, or empty."""
    path = database_file(state)
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        sqlite3.register_converter("instant", _instant)
        connection = sqlite3.connect(
            f"file:{path}?mode=rw", uri=True, timeout=30, detect_types=sqlite3.PARSE_COLNAMES
        )
    except (OSError, sqlite3.Error) as error:
        raise _unreadable(path, error) from error
    try:
        connection.execute("BEGIN")
        if connection.execute(_EMPTY).fetchone()[0]:  # its first writer died, or had no room
            yield None
            return
        revision = connection.execute(_REVISION).fetchone()
        if revision and revision[0] > HEAD:
            raise newer(path, revision[0])
        yield connection
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    except (ValueError, TypeError, OverflowError) as error:  # a row may be anything
        why = f"a row cannot be read ({type(error).__name__})"
        raise StoreError(f"cannot read {path}", why, rows.DAMAGED) from error
    finally:
        connection.close()


def _seen(connection: sqlite3.Connection, name: str | None) -> Seen:
    def select(statement: str, one: str) -> sqlite3.Cursor:
        if name is None:
            return connection.execute(statement)
        return connection.execute(f"{statement} {one} = ?", (name,))

    targets: dict[str, dict[str, TargetState]] = {}
    row: Any  # a tuple with the names above
    for row in map(Target._make, select(_TARGETS, "WHERE lineage")):
        targets.setdefault(row.lineage, {})[row.target] = rows.target(row)
    parks = rows.parks(map(Park._make, connection.execute(_PARKS)))
    revoked: dict[str, list[known.Revocation]] = {}
    for row in map(Revocation._make, connection.execute(_REVOCATIONS)):
        revoked.setdefault(row.lineage, []).append(rows.revocation(row))
    orders = {name: (url, asked) for name, url, asked in select(_ORDERS, "AND lineage")}
    seen = Seen(digests=dict(connection.execute(_META).fetchall()))
    found: list[Any] = [Row._make(values) for values in select(_LINEAGES, "WHERE lineage.name")]
    for row in sorted(found, key=itemgetter(0)):
        lineage = rows.lineage(
            row,
            targets.get(row.name, {}),
            orders.get(row.name),
            parks,
            revoked.get(row.name, ()),
        )
        if row.configured:
            seen.wanted.append((wanted.spec(row.name, row.wanted), lineage))
        else:
            seen.left.append(lineage)
    return seen


def _unreadable(path: Path, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or str(error)
    todo = advice(error, "run this command as root, or as the user that certd runs as")
    if rows.is_damage(reason):
        todo = rows.DAMAGED
    elif "no such" in reason:
        todo = "an older certd made it: `certd renew` or the daemon brings it up to date"
    return StoreError(f"cannot read {path}", reason, todo)
