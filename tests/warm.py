"""certd as a process, many times at the price of one: each is a fork of one that has imported it.

Most of what a short command costs is imports. Apart from these, what runs is what runs
from the command line: ``main()``, with its arguments, environment and streams, in a process
of its own with an end of its own. What certd imports when it is cold is for other tests.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import itertools
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from certd.testing.processes import Child, Process

if TYPE_CHECKING:
    from tests.site import Site

ROOT = Path(__file__).parents[1]
SECONDS = 60.0  # for one command; far more than any takes
LARGEST = 2**20  # octets of a request
AT_START = ("PYTHON", "LD_", "LC_", "LANG")  # of the environment
# Also what certd imports late, when it turns out to be needed.
IMPORTED = (
    "certd.cli.ca",
    "certd.cli.main",
    "certd.cli.account",
    "certd.cli.check",
    "certd.cli.db",
    "certd.cli.plan",
    "certd.cli.pull",
    "certd.cli.renew",
    "certd.cli.revoke",
    "certd.cli.run",
    "certd.cli.seal",
    "certd.cli.show",
    "certd.cli.status",
    "certd.ca.local",
    "certd.ca.account_requests",
    "certd.ca.ari",
    "certd.config.reading",
    "certd.config.refusals",
    "certd.daemon",
    "certd.engine.oneshot",
    "certd.store.store",
    "cryptography.hazmat.backends.openssl.backend",
    "ctypes",
    "dns.asyncquery",
    "dns.asyncresolver",
    "certd_providers.rfc2136",
    "certd.trust",
    "certd_deploy.disk",
)


class Running:
    """What ``Popen`` is to a process that is somebody else's child."""

    def __init__(self, report: int) -> None:
        """``report`` is told the process id, and in the end the status."""
        self._report = report
        self.pid = self._read()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("certd", timeout or 0)
            self.returncode = self._read()
            os.close(self._report)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _read(self) -> int:
        said = b""
        while not said.endswith(b"\n"):
            octet = os.read(self._report, 1)
            assert octet, "the warm process is gone"
            said += octet
        return int(said)


class WarmChild(Child):
    """certd until it is stopped, such as its daemon."""

    def _started(
        self, output: IO[bytes], environment: Mapping[str, str], cwd: Path | None
    ) -> Process:
        assert cwd is None
        return shared().start(self.argv, output, output, environment)


class Warm:
    """Any number of commands at a time, from any thread."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                start_new_session=True,
            )

    def start(
        self,
        argv: Sequence[str],
        output: IO[bytes],
        errors: IO[bytes],
        environment: Mapping[str, str],
        *,
        seconds: float = 0,
    ) -> Running:
        """certd with these arguments, in a group of its own; it is ended after ``seconds``."""
        added = {name for name in environment if environment[name] != os.environ.get(name)}
        late = {name for name in added - {"PYTHONPATH"} if name.startswith(AT_START)}
        assert not late, f"{late}: read when an interpreter starts, which is over: use subprocess"
        request = {
            "argv": list(argv),
            "environment": dict(environment),
            "folder": os.getcwd(),
            "seconds": seconds,
        }
        ours, theirs = os.pipe()
        try:
            sent = [output.fileno(), errors.fileno(), theirs]
            socket.send_fds(self._channel, [json.dumps(request).encode()], sent)
        finally:
            os.close(theirs)
        return Running(ours)

    def run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        started: Callable[[int], None] = lambda pid: None,
    ) -> subprocess.CompletedProcess[str]:
        """To its end; ``environment`` is added to ours, ``started`` is told its process id."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            ours = {**os.environ, **environment}
            running = self.start(argv, output, errors, ours, seconds=SECONDS)
            started(running.pid)
            status = running.wait()
            said = []
            for stream in (output, errors):
                stream.seek(0)
                said.append(stream.read().decode())
        return subprocess.CompletedProcess(list(argv), status, *said)

    def certd(
        self,
        site: Site,
        *words: str,
        started: Callable[[int], None] = lambda pid: None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        return self.run(site.argv(*words), environment, started)

    def status(self, site: Site) -> Mapping[str, dict[str, Any]]:
        return site.status()

    def close(self) -> None:
        self._channel.close()  # and so it ends
        self._process.wait()


_MAKING = threading.Lock()


def shared() -> Warm:
    """The one of this test process, from when it is first needed."""
    with _MAKING:
        return _made()


@functools.cache
def _made() -> Warm:
    warm = Warm()
    atexit.register(warm.close)
    return warm


# -- in the warm process ---------------------------------------------------------------------


def serve(channel: socket.socket) -> NoReturn:
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has no other threads"
    gc.freeze()
    with selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.data is not None:
                    ready.unregister(key.fd)
                    _tell_the_end(key.fd, *key.data)
                elif asked := socket.recv_fds(channel, LARGEST, 3):
                    ready.register(*_start(*asked[:2]))


def _start(asked: bytes, streams: list[int]) -> tuple[int, int, tuple[int, int]]:
    """Another certd: what is ready to be read when it has ended, and whom to tell then."""
    if not asked:
        os._exit(0)
    output, errors, report = streams
    pid = os.fork()
    if pid == 0:
        _become(json.loads(asked), output, errors)
    os.close(output)
    os.close(errors)
    os.write(report, b"%d\n" % pid)
    return os.pidfd_open(pid), selectors.EVENT_READ, (pid, report)


def _tell_the_end(descriptor: int, pid: int, report: int) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # who has asked may be gone
        os.write(report, b"%d\n" % status)
    os.close(report)
    os.close(descriptor)


def _become(request: dict[str, Any], output: int, errors: int) -> NoReturn:
    """certd, until it ends; then this process does."""
    from certd import failpoint
    from certd.cli.main import main

    os.setsid()
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # its status says if that ended it
    os.chdir(request["folder"])
    for descriptor, stream in ((1, output), (2, errors)):
        os.dup2(stream, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    time.tzset()
    failpoint._KILL_AT = os.environ.get("CERTD_KILL_AT")  # read at import, which is long over
    failpoint._passed = itertools.count(1)
    sys.argv = request["argv"]
    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # What is left of an orderly end; taking a thousand modules down is the longer part.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
