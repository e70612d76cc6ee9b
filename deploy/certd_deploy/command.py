"""Running the operator's command after a deployment: bounded in time, output and surroundings."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from certd.api import ConfigError, NotHere, TargetError

MOST_OUTPUT = 64 * 1024  # bytes kept, the last ones
_LOOK = 0.05  # seconds between two looks whether the program has ended
_LINES, _CHARACTERS = 5, 500  # of its output, in an error
_LAST_MOMENT = 0.5  # seconds between SIGTERM and SIGKILL when certd ends


class _Running:
    """The programs that run now: they end with certd, and then no other begins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()

    @contextlib.contextmanager
    def started(
        self, argv: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
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


def check(argv: Sequence[str]) -> None:
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


def check_timeout(seconds: float) -> None:
    """Check a setting that is the time limit of a command.

    Raises:
        ConfigError: it cannot be one.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"{seconds:g} is no time limit", "it is in seconds", "write a number above 0"
        )


def run(
    argv: Sequence[str], variables: Mapping[str, str], timeout_seconds: float, what: str
) -> None:
    """Run a program to its end; ``what`` opens the error if that is not a good one.

    It gets PATH, LANG and ``variables`` for an environment, nothing to read, and a session
    of its own, so that at the time-out everything it has started ends with it; so it does
    when certd ends.

    Raises:
        TargetError: it could not be started, took too long, or its exit status is not 0.
    """
    program = argv[0]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **variables}
    with contextlib.ExitStack() as running:
        try:
            process = running.enter_context(_RUNNING.started(argv, environment))
        except OSError as error:
            raise TargetError(
                what,
                f"{program} cannot be started: {error.strerror}",
                "correct reload = […], or install the program",
            ) from error
        ended, output = _watch(process, time.monotonic() + timeout_seconds)
    if not ended:
        said = _said(output)
        raise TargetError(
            what,
            f"{program} did not end within {timeout_seconds:g} s and was killed{said}",
            "see why it hangs, or raise reload_timeout",
        )
    if process.returncode != 0:
        raise TargetError(
            what,
            f"{program} {_status(process.returncode)}{_said(output)}",
            "run the command by hand to see what it lacks",
        )


def _list(argv: Sequence[str]) -> str:
    """As the operator writes it in TOML."""
    return json.dumps(list(argv), ensure_ascii=False)


def _watch(process: subprocess.Popen[bytes], deadline: float) -> tuple[bool, bytes]:
    """Whether it has ended by itself before the deadline, and what it wrote."""
    assert process.stdout is not None  # noqa: S101 - it was asked for; narrows the type
    with process.stdout as stream:
        try:
            output = _follow(process, stream, deadline)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
        finally:
            ended = _end(process)
    return ended, output


def _follow(process: subprocess.Popen[bytes], stream: IO[bytes], deadline: float) -> bytes:
    """What it writes until it ends, or until the deadline.

    Not until the pipe is closed: what it left running, such as a server that it started,
    may hold the pipe for ever.
    """
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ended = process.poll() is not None  # asked first: all it wrote is then in the pipe
            ready = selector.select(0 if ended else min(_LOOK, left))
            if ready:
                chunk = os.read(stream.fileno(), MOST_OUTPUT)
                output = (output + chunk)[-MOST_OUTPUT:]
                if not chunk:
                    break
            if ended and (not ready or len(output) == MOST_OUTPUT):
                break
    return output


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
    if code > 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _said(output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    text = " / ".join([line for line in lines if line][-_LINES:])[-_CHARACTERS:]
    # It is shown on terminals, which would obey what is in it.
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return f': "{shown}"' if shown else ""
