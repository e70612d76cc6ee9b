"""``make bench``: new certificates by HTTP-01 against Pebble, certd beside lego.

Pebble rejects 5 % of the nonces and asks for its own waits, but validates without the
sleeps that it has for tests. On a shared machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import clients, many
from certd.testing.pebble import Pebble

LOOKS = (("status",), ("status", "--json"), ("plan",), ("check",))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("-n", type=int, default=300, help="certificates for certd (300)")
    parser.add_argument("--lego", type=int, default=24, help="certificates for lego (24)")
    parser.add_argument("--runs", type=int, default=3, help="runs; the median is shown (3)")
    parser.add_argument("--many", type=int, default=10_000, help="certificates for status (10000)")
    arguments = parser.parse_args()
    results: list[clients.Result] = []
    with tempfile.TemporaryDirectory(prefix="certd-bench-") as folder:
        for run in range(arguments.runs):
            for client, count in ((clients.certd, arguments.n), (clients.lego, arguments.lego)):
                if not count:
                    continue
                with Pebble() as pebble:  # a fresh one: its store grows slower as it fills
                    client(pebble, Path(folder) / f"{client.__name__}-{run}", count, results)
        path = many.prepare(Path(folder) / "many", arguments.many)
        waits = {words: many.seconds(path, *words) for words in LOOKS}
    show(results, lego=bool(arguments.lego))
    for words, seconds in waits.items():
        print(f"certd {' '.join(words)} of {arguments.many} certificates: {seconds:.2f} s")


def show(results: list[clients.Result], *, lego: bool) -> None:
    table = Table(box=None, pad_edge=False)
    for column in (
        "CLIENT",
        "CERTIFICATES",
        "PER SECOND",
        "CPU EACH",
        "PEAK MEMORY",
        "MEMORY EACH",
    ):
        table.add_column(column, justify="left" if column == "CLIENT" else "right")
    for name in dict.fromkeys(result.client for result in results):
        runs = [result for result in results if result.client == name]
        count = runs[0].certificates
        peak = statistics.median(run.peak_mb for run in runs)
        table.add_row(
            name,
            str(count),
            f"{count / statistics.median(run.seconds for run in runs):.1f}",
            f"{statistics.median(run.cpu_seconds for run in runs) / count * 1000:.0f} ms",
            f"{peak:.0f} MB",
            f"{peak / count * 1024:.0f} kB" if name.startswith("certd") else "–",
        )
    console = Console()
    console.print(table)
    if lego and not any(result.client.startswith("lego") for result in results):
        console.print("lego is not installed (on Debian: apt-get install lego)")


main()
