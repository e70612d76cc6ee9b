"""Child processes and the ports they listen on: taken, started, watched, and gone at the end."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from certd.errors import CertdError

# Below the range that Linux gives to outgoing connections (32768 and up), or one of those
# could sit on a port between the moment it was taken and the moment its server binds it.
FIRST_PORT, LAST_PORT = 10_000, 32_000

_LOOK_AGAIN = 0.01  # seconds between two looks at a starting child


class ComponentError(CertdError):
    """A real component failed; ``why`` ends with its last output."""


class NotInstalled(ComponentError):
    """A component is not on this machine; ``component`` is the name to install it by."""

    def __init__(self, component: str, why: str, next: str) -> None:
        super().__init__(f"not installed: {component}", why, next)
        self.component = component


class Ports:
    """TCP and UDP ports of this machine that no other ``Ports`` has, until closed.

    Parallel test processes agree through abstract Unix sockets: like ports, these belong
    to the network namespace, and the kernel drops them with the process that held them.
    """

    def __init__(self) -> None:
        self._locks: list[socket.socket] = []

    def take(self) -> int:
        for _ in range(1000):
            # Not the random module: test plugins seed it alike in every worker.
            port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                lock.bind(f"\0certd-port-{port}")
                if _unused(port):
                    self._locks.append(lock)
                    return port
            lock.close()
        raise ComponentError("no free port", f"1000 tries in {FIRST_PORT}-{LAST_PORT}")

    def close(self) -> None:
        while self._locks:
            self._locks.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unused(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as trial:
            try:
                trial.bind(("0.0.0.0", port))  # noqa: S104 - any listener on any address is in the way
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return False
                raise
    return True


class Process(Protocol):
    """What is asked of a ``subprocess.Popen``, or of what stands for one."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Stopped:
    """As a context it is stopped in the end."""

    def stop(self) -> object:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Child(Stopped):
    """A process in a group of its own, with its output in ``log``.

    Started by the constructor. Whatever way this interpreter ends (but SIGKILL), the group
    is stopped.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.name = Path(self.argv[0]).name
        self.log = log
        with log.open("ab") as output:
            self._process = self._started(output, {**os.environ, **(environment or {})}, cwd)
        atexit.register(self.stop)

    def _started(
        self, output: IO[bytes], environment: Mapping[str, str], cwd: Path | None
    ) -> Process:
        return subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.poll()

    def output(self, lines: int = 30) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, healthy: Callable[[], bool], seconds: float = 20.0) -> None:
        """Return once ``healthy()`` is true; an OSError from it means "not yet".

        Raises:
            ComponentError: the child ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            # The child first: somebody else's server on its port must not pass for it.
            if self.returncode is not None:
                raise ComponentError(
                    f"{self.name} ended with {self.returncode} while starting", self.output()
                )
            with contextlib.suppress(OSError):
                if healthy():
                    return
            if time.monotonic() > deadline:
                raise ComponentError(f"{self.name} not ready after {seconds:g} s", self.output())
            time.sleep(_LOOK_AGAIN)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its group."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit status.

        Raises:
            ComponentError: it still runs after so many seconds.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ComponentError(f"{self.name} still runs", self.output()) from error

    def kill(self) -> int:
        """SIGKILL to the whole group; returns the exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()

    def stop(self, seconds: float = 5.0) -> int:
        """SIGTERM to the group, SIGKILL to what is left of it; returns the exit status."""
        atexit.unregister(self.stop)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.kill()
