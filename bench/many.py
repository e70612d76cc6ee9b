"""``certd status`` over many certificates: how long an operator waits for the table."""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certd import config as configuration
from certd.config.wellknown import WELL_KNOWN
from certd.known import RenewalInfo, TargetState
from certd.model import CertificateSpec
from certd.store import Store
from certd.store.files import database_file
from certd.testing.chains import bundle

FIRST = "c0"
LATER = timedelta(hours=6)
# The others' rows are those of the first but for what is their own.
OWN = ("name", "wanted", "epoch", "holder")


def prepare(folder: Path, count: int) -> Path:
    """A configuration and a store of so many certificates.

    Each is issued, has a renewal window and is verified at its target.
    """
    folder.mkdir()
    path = folder / "certd.toml"
    path.write_text(
        '[certd]\nstate = "state"\n[ca.letsencrypt]\nagree_tos = true\n'
        '[target.web]\ntype = "disk"\npath = "tls/{name}"\n'
        + "".join(
            f'[certificate.c{n}]\nnames = ["c{n}.example.com"]\ntargets = ["web"]\n'
            for n in range(count)
        )
    )
    config = configuration.load(path)
    with closing(Store.open(config.state)) as store:
        store.lineages.take_over(config.certificates, config.digest, config.table_digests)
        _issue(store, config.certificates[FIRST])
    with closing(sqlite3.connect(database_file(config.state))) as database, database:
        _copy(database)
    return path


def _issue(store: Store, spec: CertificateSpec) -> None:
    now, sample = datetime.now(UTC), bundle(spec.name, 1, f"{spec.name}.example.com")
    store.leases.claim([spec.name])
    order = store.orders.begin(
        spec.name,
        "letsencrypt",
        WELL_KNOWN["letsencrypt"].directory,
        spec.identifiers,
        "ec-p256",
        sample.key_pem,
        "csr",
        None,
        now,
    )
    store.orders.complete(order, sample.leaf_pem, sample.chain_pem, sample.certificate, now)
    store.lineages.keep_target(spec.name, TargetState("web", "verified", 1, 1))
    start = now + timedelta(days=58)
    info = RenewalInfo(start, start + timedelta(days=2), start + timedelta(days=1))
    store.lineages.keep_renewal(spec.name, info, now + LATER, 0)
    store.leases.release(spec.name, now + LATER)


def _copy(database: sqlite3.Connection) -> None:
    """One statement a table: 10,000 certificates through the store's own calls take a minute."""

    def columns(table: str) -> list[str]:
        return [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]

    for table in ("version", "target"):
        others = [name for name in columns(table) if name != "lineage"]
        listed = ", ".join(others)
        database.execute(
            f"INSERT INTO {table} (lineage, {listed}) "
            f"SELECT lineage.name, {', '.join(f'sample.{name}' for name in others)} "
            f"FROM lineage JOIN {table} AS sample ON sample.lineage = ? WHERE lineage.name <> ?",
            (FIRST, FIRST),
        )
    database.execute("UPDATE version SET identifiers = 'dns:' || lineage || '.example.com'")
    listed = ", ".join(name for name in columns("lineage") if name not in OWN)
    database.execute(
        f"UPDATE lineage SET ({listed}) = "
        f"(SELECT {listed} FROM lineage WHERE name = ?) WHERE name <> ?",
        (FIRST, FIRST),
    )


def seconds(path: Path, *words: str, runs: int = 5) -> float:
    """The median wall clock of a command, its start included."""
    taken = []
    for _ in range(runs):
        begun = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "certd", "-c", str(path), *words],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)
