"""The directory of a CA that falls silent."""

from __future__ import annotations

import json
import threading
from typing import cast

import pytest

from certd.ca.account import AccountBook
from certd.ca.client import DIRECTORY_AGE, UNANSWERED_AGE, Client
from certd.ca.net import Network
from certd.ca.problem import Problem
from certd.ca.reading import Answer, WireError
from certd.ca.wire import Wire

DIRECTORY = "https://ca.example/dir"
DOCUMENT = {name: f"https://ca.example/{name}" for name in ("newNonce", "newAccount", "newOrder")}
DEADLINE = 5.0  # seconds; nothing here takes a tenth of it


class _Server:
    """A wire to a directory; mute while ``mute``, and slow until ``go_on``."""

    def __init__(self) -> None:
        self.mute = False
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def exchange(self, *request: object) -> Answer:
        self.asked.release()
        assert self.go_on.wait(DEADLINE)
        if self.mute:
            raise WireError("it did not answer in time") from TimeoutError()
        return Answer(200, {}, json.dumps(DOCUMENT).encode())


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def server() -> _Server:
    return _Server()


@pytest.fixture
def client(server: _Server, clock: _Clock) -> Client:
    network = Network(None, "test")
    network._wire = cast(Wire, server)
    return Client("test", DIRECTORY, network, cast(AccountBook, None), monotonic=clock)


def _times(server: _Server) -> int:
    """How often it was asked since the last time."""
    times = 0
    while server.asked.acquire(blocking=False):
        times += 1
    return times


def test_where_there_is_no_answer_the_directory_of_before_holds_a_while(
    client: Client, server: _Server, clock: _Clock
) -> None:
    assert client.directory() == DOCUMENT
    server.mute = True
    clock.now += DIRECTORY_AGE
    assert _times(server) == 1
    for _ in range(3):
        assert client.directory() == DOCUMENT
    assert _times(server) == 1
    clock.now += UNANSWERED_AGE
    server.mute = False
    assert client.directory() == DOCUMENT
    clock.now += UNANSWERED_AGE
    assert client.directory() == DOCUMENT


def test_without_one_of_before_nobody_queues_up_for_it(client: Client, server: _Server) -> None:
    server.mute = True
    with pytest.raises(Problem, match="in time"):
        client.directory()
    with client._lock:  # another thread's, which asks again
        found: list[BaseException] = []
        thread = threading.Thread(target=_ask, args=(client, found))
        thread.start()
        thread.join(DEADLINE)
    assert "left alone" in str(found[0])
    assert _times(server) == 1


def _ask(client: Client, found: list[BaseException]) -> None:
    try:
        client.directory()
    except Problem as problem:
        found.append(problem)


def test_nobody_waits_for_who_fetches_it_anew(
    client: Client, server: _Server, clock: _Clock
) -> None:
    client.directory()
    clock.now += DIRECTORY_AGE
    _times(server)
    server.go_on.clear()
    thread = threading.Thread(target=client.directory)
    thread.start()
    assert server.asked.acquire(timeout=DEADLINE)
    assert client.directory() == DOCUMENT
    server.go_on.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
