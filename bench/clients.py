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
from collections.abc import Iterator, Mapping, Sequence
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


def run(argv: list[str], environment: Mapping[str, str] | None = None) -> resource.struct_rusage:
    """Run a program that must go well; what the system says that it used."""
    child = subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{argv[0]} failed with status {child.returncode}")
    return usage


def result(
    client: str, begun: float, usages: Sequence[resource.struct_rusage], certificates: int
) -> Result:
    seconds = time.monotonic() - begun
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Result(
        client, certificates, seconds, cpu, max(usage.ru_maxrss for usage in usages) / 1024
    )


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
    tables += [
        # lego does not look at its own HTTP-01 challenges: the same way for both.
        f'[certificate.c{n}]\nnames = ["c{n}.example.com"]\nself_check = false\n'
        for n in range(count)
    ]
    path.write_text("".join(tables))
    begun = time.monotonic()
    usage = run([sys.executable, "-m", "certd", "-c", str(path), "renew", "--quiet"])
    results.append(result("certd renew, one process", begun, [usage], count))


def lego(pebble: Pebble, folder: Path, count: int, results: list[Result]) -> None:
    """A process for each certificate, some at once, all with one account; through a webroot."""
    binary = shutil.which("lego")
    if binary is None:
        return
    folder.mkdir()
    webroot = folder / "webroot"
    webroot.mkdir()

    def one(number: int) -> resource.struct_rusage:
        return run(
            [
                binary,
                *("--server", pebble.directory, "--accept-tos", "--email", "bench@example.com"),
                *("--path", str(folder / "state"), "--domains", f"l{number}.example.com"),
                *("--http", "--http.webroot", str(webroot), "--key-type", "ec256", "run"),
            ],
            {"LEGO_CA_CERTIFICATES": str(pebble.ca_bundle)},
        )

    with serving(webroot, pebble.http_port):
        one(0)  # the account, outside of the figures
        begun = time.monotonic()
        with ThreadPoolExecutor(PROCESSES) as pool:
            usages = list(pool.map(one, range(1, count + 1)))
        results.append(result(f"lego, {PROCESSES} processes at once", begun, usages, count))


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
