"""Is the database whole? SQLite's own check, and what must hold between certd's rows.

By the standard library alone, on one instant of the file, beside whoever writes to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certd import x509
from certd.errors import CertdError, StoreError
from certd.model import keyless
from certd.references import SecretReference
from certd.secrets import Secret
from certd.store import rows, wanted
from certd.store.backup import opened
from certd.store.envelope import (
    Keys,
    of_account,
    of_authority,
    of_next_account_key,
    of_next_key,
    of_order,
    of_version,
)
from certd.store.files import HEAD, newer
from certd.store.sealed import keys_of

MOST = 5  # of SQLite's own findings: one page can be the cause of hundreds
_RESTORE = "restore a backup with `certd db restore FILE`"
_TABLES = {"meta", "account", "lineage", "version", "certificate_order", "token", "target"}
_SINCE = {
    "0003": {"park", "bucket"},
    "0005": {"authority", "issued"},
    "0006": {"revocation", "compromised_key", "crl"},
    "0007": {"next_key"},
    "0009": {"seal_key"},
    "0010": {"dns_record"},
}  # by the migration that made them


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and what to do."""

    what: str
    next: str

    def __str__(self) -> str:
        return f"{self.what}; {self.next}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is wrong, and how much there is; the counts are 0 where they cannot be told."""

    findings: tuple[Finding, ...]
    certificates: int = 0  # configured
    versions: int = 0
    orders: int = 0  # under way


def inspect(path: Path, seal: SecretReference | None = None) -> Inspection:
    """Look at all of a database of certd's, of this release or of one before.

    ``seal`` is where its sealing key is; what does not open with it is a finding.

    Raises:
        StoreError: there is none, it cannot be opened, or it is a newer certd's.
    """
    with opened(path) as connection:
        connection.row_factory = sqlite3.Row
        try:
            words = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
            if words != ["ok"]:
                # Whatever its rows say may not be so: no more is asked of it.
                return Inspection(tuple(_damage(words)))
            _recognise(connection, path)
            found = tuple(finding for look in _LOOKS for finding in look(connection))
            found += tuple(_secrets(connection, seal))
            return Inspection(
                found,
                _count(connection, "lineage WHERE configured"),
                _count(connection, "version"),
                _count(connection, "certificate_order WHERE state = 'live'"),
            )
        except sqlite3.Error as error:
            return Inspection(tuple(_damage([str(error)])))


def _damage(words: list[str]) -> Iterator[Finding]:
    more = f" (and {len(words) - MOST} more)" if len(words) > MOST else ""
    shown = "; ".join(" ".join(word.split()) for word in words[:MOST])
    yield Finding(f"SQLite finds it damaged: {shown}{more}", rows.DAMAGED)


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    have = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    row = None
    if "alembic_version" in have:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row and str(row[0]) > HEAD:
        raise newer(path, str(row[0]))
    due = {
        name for since, names in _SINCE.items() if row and since <= str(row[0]) for name in names
    }
    if lacking := ({*_TABLES, "alembic_version"} | due) - have:
        raise StoreError(
            f"{path} is no database of certd's",
            f"it has no table {', '.join(sorted(lacking))}",
            "name the right file",
        )


def _count(connection: sqlite3.Connection, what: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {what}").fetchone()[0])  # noqa: S608 - ours


def _lineages(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Every row can be read, and its current version is there."""
    query = """SELECT lineage.*, max(version.number) AS newest,
        count(version.number = lineage.current OR NULL) AS there
        FROM lineage LEFT JOIN version ON version.lineage = lineage.name GROUP BY lineage.name"""
    for row in connection.execute(query):
        name = row["name"]
        try:
            wanted.spec(name, row["wanted"])
            rows.failure(row["failure"])
        except rows.Unreadable:
            yield Finding(f"{name}: its row cannot be read", _RESTORE)
        if row["current"] is None and row["newest"] is not None:
            yield Finding(f"{name}: none of its versions is current", _restore(name))
        elif row["current"] is not None and not row["there"]:
            what = f"{name}: its current version, {row['current']}, is not there"
            yield Finding(what, _restore(name))


def _secrets(connection: sqlite3.Connection, seal: SecretReference | None) -> Iterator[Finding]:
    """What is sealed opens, and each key belongs to what is beside it."""
    try:
        keys = keys_of(connection, seal)
    except CertdError as error:
        yield Finding(f"{error.what}: {error.why}", error.next)
        return
    for look in (_versions, _orders, _next_keys, _accounts, _authorities):
        yield from look(connection, keys)


def _versions(connection: sqlite3.Connection, keys: Keys) -> Iterator[Finding]:
    """Those that are current, or that a target goes back to, are whole pairs."""
    query = """SELECT version.* FROM version
        WHERE EXISTS (SELECT 1 FROM lineage WHERE name = lineage AND current = number)
        OR EXISTS (SELECT 1 FROM target WHERE target.lineage = version.lineage
            AND number IN (target.version, target.serving))"""
    for row in connection.execute(query):
        what = f"{row['lineage']}: version {row['number']}"
        todo = f"{_RESTORE}, or `certd renew {row['lineage']} --force` gets another"
        try:
            key = keys.open(row["key_pem"], of_version(row["lineage"], row["number"]))
            leaf = x509.read_chain(row["leaf_pem"])[0]
            if row["chain_pem"]:
                x509.read_chain(row["chain_pem"])
            if x509.facts(leaf).fingerprint != row["fingerprint"]:
                yield Finding(f"{what}: its leaf has another fingerprint than its row says", todo)
            if not _keyless(row, key) and not x509.pair_matches(row["leaf_pem"], key):
                x509.type_of(key)  # which says so if it cannot be read
                yield Finding(f"{what}: its private key does not belong to its leaf", todo)
        except CertdError as error:
            yield Finding(f"{what}: {error.what}: {error.why}", todo)


def _keyless(row: sqlite3.Row, key: Secret) -> bool:
    """Whether its key is one that certd never had; an older database knows none such."""
    return "wishes" in row.keys() and keyless(row["wishes"]) and not key.reveal()  # noqa: SIM118


def _orders(connection: sqlite3.Connection, keys: Keys) -> Iterator[Finding]:
    """At most one is under way for a certificate, with its key and signing request."""
    query = "SELECT * FROM certificate_order WHERE state = 'live' ORDER BY id"
    seen: set[str] = set()
    for row in connection.execute(query):
        what = f"{row['lineage']}: order {row['id']}"
        if row["lineage"] in seen:
            yield Finding(f"{what}: another one is under way", _RESTORE)
        seen.add(row["lineage"])
        try:
            key = keys.open(row["key_pem"] or "", of_order(row["lineage"], row["csr_pem"]))
            if not _keyless(row, key):
                x509.type_of(key)
            x509.csr_der(row["csr_pem"])
        except (CertdError, ValueError):
            yield Finding(f"{what}: its key or signing request cannot be read", _RESTORE)


def _next_keys(connection: sqlite3.Connection, keys: Keys) -> Iterator[Finding]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'next_key'").fetchone():
        return  # an older certd's
    for row in connection.execute("SELECT lineage, spki_sha256, key_pem FROM next_key"):
        try:
            place = of_next_key(row["lineage"], row["spki_sha256"])
            good = x509.pin(keys.open(row["key_pem"], place)) == row["spki_sha256"]
        except CertdError:
            good = False
        if not good:
            yield Finding(f"{row['lineage']}: its backup key cannot be read", _RESTORE)


def _targets(connection: sqlite3.Connection) -> Iterator[Finding]:
    """What they have, and what they go back to, is there."""
    query = """SELECT target.lineage, target.target, which.number FROM target
        JOIN (SELECT lineage, target, version AS number FROM target
            UNION SELECT lineage, target, serving FROM target) AS which
        ON which.lineage = target.lineage AND which.target = target.target
        WHERE which.number IS NOT NULL AND NOT EXISTS (SELECT 1 FROM version
            WHERE version.lineage = target.lineage AND version.number = which.number)"""
    for row in connection.execute(query):
        what = f"{row['lineage']} at {row['target']}: version {row['number']} is not there"
        yield Finding(what, _RESTORE)


def _orphans(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Nothing belongs to a certificate that has no row."""
    for table in ("version", "certificate_order", "target"):
        query = f"""SELECT DISTINCT lineage FROM {table}
            WHERE lineage NOT IN (SELECT name FROM lineage)"""  # noqa: S608 - names of ours
        for row in connection.execute(query):
            yield Finding(f"{table} has rows of {row['lineage']}, which has none", _RESTORE)


def _accounts(connection: sqlite3.Connection, keys: Keys) -> Iterator[Finding]:
    for row in connection.execute("SELECT * FROM account"):
        directory = row["directory"]
        try:
            x509.type_of(keys.open(row["key_pem"], of_account(directory)))
            # Not in a database of a release before.
            if "next_key_pem" in row.keys() and row["next_key_pem"]:  # noqa: SIM118 - of a Row
                x509.type_of(keys.open(row["next_key_pem"], of_next_account_key(directory)))
        except CertdError:
            yield Finding(f"the key of the account at {row['directory']} cannot be read", _RESTORE)


def _authorities(connection: sqlite3.Connection, keys: Keys) -> Iterator[Finding]:
    """Every root and intermediate of our own is a pair."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'authority'").fetchone():
        return
    for row in connection.execute("SELECT ca, role, key_pem, certificate_pem FROM authority"):
        try:
            key = keys.open(row["key_pem"], of_authority(row["ca"], row["certificate_pem"]))
            good = x509.pair_matches(row["certificate_pem"], key)
        except CertdError:
            good = False
        if not good:
            what = f"the {row['role']} of {row['ca']}, or its key, cannot be read, or is another's"
            yield Finding(what, _RESTORE)


def _restore(name: str) -> str:
    return (
        f"{_RESTORE}; without one, `certd db adopt` takes back in what the targets of {name} hold"
    )


_LOOKS = (_lineages, _targets, _orphans)
