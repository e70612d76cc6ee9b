"""The clients that are compared: how each is made to get n certificates, and what that took."""

from __future__ import annotations

import functools
import http.server
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from certd.testing.pebble import Pebble

PROCESSES = 8  # of a client that gets one certificate a run


@dataclass(frozen=True, slots=True)
class Result:
    """One run: seconds of wall clock and of processor, and the peak memory of a process."""

    client: str
    certificates: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


@contextmanager
def measured(client: str, certificates: int, results: list[Result]) -> Iterator[None]:
    """The children that end within the block are what is measured."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    yield
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    results.append(Result(client, certificates, seconds, cpu, after.ru_maxrss / 1024))


def certd(pebble: Pebble, folder: Path, count: int, results: list[Result]) -> None:
    """One ``certd renew`` for all of them, its start included."""
    folder.mkdir()
    path = folder / "certd.toml"
    tables = [
        '[certd]\nstate = "state"\n'
        # Pebble's store can lock up under more connections than this.
        "workers = 4\n",
        f'[ca.letsencrypt]\ndirectory = "{pebble.directory}"\n'
        f'ca_bundle = "{pebble.ca_bundle}"\nagree_tos = true\n',
        f'[http]\nlisten = ["127.0.0.1:{pebble.http_port}"]\n',
    ]
    tables += [f'[certificate.c{n}]\nnames = ["c{n}.example.com"]\n' for n in range(count)]
    path.write_text("".join(tables))
    with measured("certd renew, one process", count, results):
        subprocess.run(
            [sys.executable, "-m", "certd", "-c", str(path), "renew", "--quiet"], check=True
        )


def lego(pebble: Pebble, folder: Path, count: int, results: list[Result]) -> None:
    """A process for each certificate, some at once, all with one account; through a webroot."""
    binary = shutil.which("lego")
    if binary is None:
        return
    folder.mkdir()
    webroot = folder / "webroot"
    webroot.mkdir()

    def run(number: int) -> None:
        subprocess.run(
            [
                binary,
                *("--server", pebble.directory, "--accept-tos", "--email", "bench@example.com"),
                *("--path", str(folder / "state"), "--domains", f"l{number}.example.com"),
                *("--http", "--http.webroot", str(webroot), "--key-type", "ec256", "run"),
            ],
            check=True,
            env={**os.environ, "LEGO_CA_CERTIFICATES": str(pebble.ca_bundle)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    with serving(webroot, pebble.http_port):
        run(0)  # the account, outside of the figures
        with (
            measured(f"lego, {PROCESSES} processes at once", count, results),
            ThreadPoolExecutor(PROCESSES) as pool,
        ):
            list(pool.map(run, range(1, count + 1)))


@contextmanager
def serving(webroot: Path, port: int) -> Iterator[None]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", port), functools.partial(Handler, directory=str(webroot))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
