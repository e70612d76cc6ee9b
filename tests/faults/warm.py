"""certd as a process, many times at the price of one: each is a fork of one that has imported it.

Most of what a short command costs is imports. Apart from these, what runs is what runs
from the command line: ``main()``, with its arguments and environment, and an end of its own.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.site import CA, SECONDS, Site

ROOT = Path(__file__).parents[2]
# Also what certd imports late, when it turns out to be needed.
IMPORTED = (
    "certd.cli.ca",
    "certd.cli.main",
    "certd.cli.account",
    "certd.cli.renew",
    "certd.cli.revoke",
    "certd.cli.seal",
    "certd.cli.status",
    "certd.ca.local",
    "certd.ca.account_requests",
    "certd.ca.ari",
    "certd.config.reading",
    "certd.engine.oneshot",
    "certd.store.store",
    "dns.asyncquery",
    "certd.trust",
    "certd_deploy.disk",
)


class Warm:
    """Runs one command at a time; a context manager."""

    def __init__(self, folder: Path) -> None:
        """``folder`` gets the output of the commands."""
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def certd(
        self,
        site: Site,
        *words: str,
        started: Callable[[int], None] = lambda pid: None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``started`` is told its process id at the beginning."""
        assert self._process.stdin is not None
        request = {"argv": site.argv(*words), "environment": environment, "to": str(self._output)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        started(self._answer())
        status = self._answer()
        said = [Path(f"{self._output}.{stream}").read_text() for stream in ("out", "err")]
        return subprocess.CompletedProcess(site.argv(*words), status, *said)

    def status(self, site: Site) -> Mapping[str, dict[str, Any]]:
        """``certd status --json``: the entry of each certificate, by name."""
        done = self.certd(site, "status", "--json")
        assert done.stdout, done.stderr
        return {entry["name"]: entry for entry in json.loads(done.stdout)["certificates"]}

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # its input ends, and so does it


class WarmSite(Site):
    """A site whose commands cost no imports; without a CA, one that needs none."""

    def __init__(self, folder: Path, ca: CA | None, warm: Warm) -> None:
        self._warm = warm
        super().__init__(folder, ca)

    def certd(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._warm.certd(self, *words, started=lambda pid: None, **environment)


def serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has no other threads"
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request)
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(request: dict[str, object]) -> None:
    """certd, until it ends; then this process does."""
    from certd import failpoint
    from certd.cli.main import main

    signal.alarm(int(SECONDS))  # a run that hangs is ended, and its status says by what
    for descriptor, path in (
        (0, os.devnull),
        (1, f"{request['to']}.out"),
        (2, f"{request['to']}.err"),
    ):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    assert isinstance(request["environment"], dict)
    assert isinstance(request["argv"], list)
    os.environ.update(request["environment"])
    failpoint._KILL_AT = os.environ.get("CERTD_KILL_AT")  # read at import, which is long over
    sys.argv = request["argv"]
    try:
        main()
    except SystemExit as end:
        # What is left of an orderly end; taking a thousand modules down is the longer part.
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    serve()
