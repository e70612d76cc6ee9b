"""``certd status`` over many certificates: how long an operator waits for the table."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certd import config as configuration
from certd.config.values import WELL_KNOWN
from certd.model import TargetState
from certd.store import Store
from certd.testing.chains import bundle


def prepare(folder: Path, count: int) -> Path:
    """A configuration and a store of so many certificates, each issued and deployed."""
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
    store = Store.open(config.state)
    store.lineages.take_over(config.certificates, config.digest)
    now = datetime.now(UTC)
    sample = bundle("c0", 1, "c0.example.com")
    store.leases.claim(config.certificates)

    def fill(name: str) -> None:
        identifiers = config.certificates[name].identifiers
        order = store.orders.begin(
            name,
            "letsencrypt",
            WELL_KNOWN["letsencrypt"].directory,
            identifiers,
            "ec-p256",
            sample.key_pem,
            "csr",
            None,
            now,
        )
        facts = replace(sample.certificate, identifiers=identifiers)
        store.orders.complete(order, sample.leaf_pem, sample.chain_pem, facts, now)
        store.lineages.keep_target(name, TargetState("web", "verified", 1, 1))
        store.lineages.keep_renewal(name, None, now + timedelta(hours=6), 0)

    with ThreadPoolExecutor(64) as pool:  # they share their commits
        list(pool.map(fill, config.certificates))
    store.close()
    return path


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
