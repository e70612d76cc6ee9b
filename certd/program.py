"""Running a program of the operator's: never a shell; bounded in time, output and surroundings."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from certd.errors import ConfigError, NotHere
from certd.secrets import Secret, in_memory

MOST_OUTPUT = 64 * 1024  # bytes kept of each stream, the last ones
_LOOK = 0.05  # seconds between two looks whether the program has ended
_LINES, _CHARACTERS = 5, 500  # of what it wrote, in an error
_LAST_MOMENT = 0.5  # seconds between SIGTERM and SIGKILL when certd ends


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a program. ``how`` is "" if it ended well, else goes on from its name:
    ``ended with status 1``; ``by_itself`` is False at the time-out.

    ``output`` and ``errors`` are the last of what it wrote to either stream; ``status`` is its
    exit status, None where a signal has ended it.
    """

    by_itself: bool
    how: str
    output: bytes
    errors: bytes
    status: int | None = None


def located(name: str) -> str | None:
    """Where a program is: on PATH, or beside this interpreter, where an extra of certd puts it."""
    return shutil.which(name) or shutil.which(name, path=os.path.dirname(sys.executable))


class _Running:
    """The programs that run now: they end with certd, and then no other begins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()

    @contextlib.contextmanager
    def started(
        self, argv: Sequence[str], environment: Mapping[str, str], stdin: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
            self._processes.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._processes.discard(process)

    def end(self) -> None:
        """SIGTERM to all that runs, SIGKILL to what is left of it after a moment."""
        # For good: whoever waits for one of them must not take its end for a failure and
        # go back to the version before. The next run deploys again.
        self._lock.acquire(timeout=_LAST_MOMENT)
        groups = [process.pid for process in self._processes if process.poll() is None]
        deadline = time.monotonic() + _LAST_MOMENT
        groups = [group for group in groups if _signal(group, signal.SIGTERM)]
        while groups and time.monotonic() < deadline:
            time.sleep(_LOOK)
            for process in self._processes:
                process.poll()  # a zombie would pass for one that runs
            groups = [group for group in groups if _signal(group, 0)]
        for group in groups:
            _signal(group, signal.SIGKILL)


# State of the module, for want of another place: targets are values, made anew at each
# reload of the configuration, and what is to end with the process belongs to the process.
# The handler runs after certd's own grace for running steps, with the threads still there.
_RUNNING = _Running()
atexit.register(_RUNNING.end)


def check_program(argv: Sequence[str]) -> None:
    """Check a setting that is a command; an empty one is none.

    Raises:
        ConfigError: it cannot be one, or (as NotHere) there is no such program.
    """
    if not argv:
        return
    program = argv[0]
    if not program.strip() or "\0" in "".join(argv):
        raise ConfigError(
            f"{_list(argv)} is no command",
            "it is run as it is, without a shell",
            'write program and arguments, as in ["systemctl", "reload", "nginx"]',
        )
    relative = bool(os.path.dirname(program)) and not os.path.isabs(program)
    if not relative and shutil.which(program):
        return
    what, why = f"there is no program {_list([program])[1:-1]}", ""
    todo = "correct it, or install the program"
    if len(program.split()) > 1:
        why = "program and arguments are one word each, for no shell takes them apart"
        todo = f"write {_list([*program.split(), *argv[1:]])}"
    elif relative:
        what = f"{_list([program])[1:-1]} is relative to wherever certd is started"
        todo = "write the whole path"
    elif not os.path.isabs(program):
        why = f"it is in no folder of PATH ({os.environ.get('PATH', os.defpath)})"
        todo = "write its whole path, or install it"
    raise NotHere(what, why, todo)


def run_program(
    argv: Sequence[str],
    variables: Mapping[str, str],
    timeout_seconds: float,
    given: Secret | None = None,
) -> Ended:
    """Run a program to its end, or to the time-out's.

    It gets PATH, LANG and ``variables`` for an environment, ``given`` or nothing to read, and
    a session of its own, so that at the time-out everything it has started ends with it; so it
    does when certd ends.

    Raises:
        OSError: it cannot be started.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **variables}
    with _readable(given) as stdin, _RUNNING.started(argv, environment, stdin) as process:
        ended, output, errors = _watch(process, time.monotonic() + timeout_seconds)
    how = f"did not end within {timeout_seconds:g} s and was killed"
    status = process.returncode if ended and process.returncode >= 0 else None
    return Ended(ended, _status(process.returncode) if ended else how, output, errors, status)


@contextlib.contextmanager
def _readable(given: Secret | None) -> Iterator[int]:
    """For a standard input: a file in memory, for a pipe would have to be fed meanwhile."""
    if given is None:
        yield subprocess.DEVNULL
        return
    with in_memory(given) as path, open(path, "rb") as file:
        yield file.fileno()


def _list(argv: Sequence[str]) -> str:
    """As the operator writes it in TOML."""
    return json.dumps(list(argv), ensure_ascii=False)


def _watch(process: subprocess.Popen[bytes], deadline: float) -> tuple[bool, bytes, bytes]:
    """Whether it has ended by itself before the deadline, and what it wrote."""
    assert process.stdout is not None  # noqa: S101 - it was asked for; narrows the type
    assert process.stderr is not None  # noqa: S101 - as above
    with process.stdout as output, process.stderr as errors:
        try:
            written = _follow(process, (output.fileno(), errors.fileno()), deadline)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
        finally:
            ended = _end(process)
    return ended, *written


def _follow(
    process: subprocess.Popen[bytes], streams: tuple[int, int], deadline: float
) -> tuple[bytes, bytes]:
    """What it writes to each until it ends, or until the deadline.

    Not until the pipes are closed: what it left running, such as a server that it started,
    may hold them for ever.
    """
    written = dict.fromkeys(streams, b"")
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            ended = process.poll() is not None  # asked first: all it wrote is then in the pipes
            ready = selector.select(0 if ended else min(_LOOK, left))
            for key, _ in ready:
                chunk = os.read(key.fd, MOST_OUTPUT)
                written[key.fd] = (written[key.fd] + chunk)[-MOST_OUTPUT:]
                if not chunk:
                    selector.unregister(key.fd)
            if ended and (not ready or MOST_OUTPUT in map(len, written.values())):
                break
    return written[streams[0]], written[streams[1]]


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended by itself; if not, it has now, and all of its session."""
    if process.poll() is not None:
        return True
    # It is not yet reaped, so its number cannot have passed to another process.
    with contextlib.suppress(PermissionError):  # of another user by now, as sudo is
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return False


def _signal(group: int, number: int) -> bool:
    """Signal a process group; whether there is one, and it is ours to signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # gone, or of another user by now
        return False
    return True


def _status(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}" if code else ""
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def said(output: bytes) -> str:
    """The last of what a program wrote, in quotes; "" if that is nothing."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    text = " / ".join([line for line in lines if line][-_LINES:])[-_CHARACTERS:]
    # It is shown on terminals, which would obey what is in it.
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return f': "{shown}"' if shown else ""
