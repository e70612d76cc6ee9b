"""Real components as fixtures; one that cannot be had is skipped by name and counted at the end.

Under ``CI=true`` a missing component is an error: a suite that skips is not a suite that passed.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import gc
import os
import re
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from certd.testing import pebble as pebbles
from certd.testing import pebble_binary
from certd.testing.nginx import Nginx
from certd.testing.pebble import Pebble, RunningPebble
from certd.testing.processes import NotInstalled, Ports
from tests.warm import Warm, shared

# A shell ignores it for what it starts in the background, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """``free_port()`` is a port of this machine that no other test has meanwhile."""
    with Ports() as ports:
        yield ports.take


@pytest.fixture(scope="session")
def warm() -> Warm:
    """certd as a process, without the time that its imports take."""
    return shared()


@pytest.fixture(scope="session")
def _pebble_binaries() -> pebble_binary.Binaries:
    """Looked for once a worker: offline, a fetch that fails for each test would take for ever."""
    return pebble_binary.locate()


@pytest.fixture(scope="session")
def _worker_pebble(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPebble]:
    running = RunningPebble.from_environment()
    if running is not None:
        yield running
        return
    request.getfixturevalue("_pebble_binaries")
    # A second is the shortest Retry-After; Pebble's own 3 and 5 would only be waited for.
    with pebbles.start(tmp_path_factory.mktemp("pebble"), retry_after=(1, 1)) as own:
        yield own


@pytest.fixture
def pebble(_worker_pebble: RunningPebble) -> Iterator[RunningPebble]:
    """A Pebble shared by the tests of one worker: strict, 5 % of nonces refused, no sleeps."""
    if isinstance(_worker_pebble, Pebble):
        yield _worker_pebble
        return
    # One that was there before validates at one port for all workers: they take turns.
    lock = Path(tempfile.gettempdir()) / f"certd-http-{_worker_pebble.http_port}.lock"
    with lock.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield _worker_pebble


@pytest.fixture
def start_pebble(
    _pebble_binaries: pebble_binary.Binaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Pebble]]:
    """``start_pebble(nonce_reject=50, …)``: a Pebble of one's own, ``Settings`` by name."""
    with contextlib.ExitStack() as running:

        def start(**settings: object) -> Pebble:
            folder = tmp_path_factory.mktemp("pebble")
            return running.enter_context(pebbles.start(folder, **settings))

        yield start


@pytest.fixture
def start_nginx(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Path, Path], Nginx]]:
    """``start_nginx(fullchain, key)``: an nginx that serves this pair."""
    with contextlib.ExitStack() as running:

        def start(fullchain: Path, key: Path) -> Nginx:
            return running.enter_context(Nginx(fullchain, key, tmp_path_factory.mktemp("nginx")))

        yield start


def pytest_collection_finish() -> None:
    """What is there by now stays: looking through it again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _skipped_if_missing() -> Iterator[None]:
    try:
        yield
    except NotInstalled as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with _skipped_if_missing():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with _skipped_if_missing():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr for report in terminalreporter.getreports("skipped")]
    words = [reason[2] for reason in reasons if isinstance(reason, tuple)]
    missing = [re.search(r"not installed: ([^:;\n]+)", word) for word in words]
    counted = collections.Counter(found[1] for found in missing if found)
    for component, tests in sorted(counted.items()):
        plural = "s" if tests > 1 else ""
        terminalreporter.write_line(
            f"not installed: {component} ({tests} test{plural} skipped)", yellow=True
        )
