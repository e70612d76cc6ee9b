"""Who waits for a CA's limit, and for which token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from certd.quota import GONE, Queue

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STEP = timedelta(minutes=1)
FIRST = NOW + STEP


def enter(queue: Queue, name: str, share: float = 0.2, key: str = "a", after: int = 0) -> int:
    """Minutes from the first token to one's own, entering this many minutes later."""
    until = FIRST + after * STEP
    return (queue.enter(name, key, share, until, STEP, NOW + after * STEP) - until) // STEP


def test_each_comes_for_a_token_of_its_own() -> None:
    queue = Queue()
    assert [enter(queue, name) for name in "cab"] == [0, 1, 2]
    assert enter(queue, "x", key="b") == 0


def test_who_comes_in_vain_keeps_its_place() -> None:
    queue = Queue()
    assert [enter(queue, name) for name in "abc"] == [0, 1, 2]
    assert [enter(queue, name, after=1) for name in "ab"] == [0, 1]


def test_nearer_expiry_is_first() -> None:
    queue = Queue()
    assert [enter(queue, name) for name in "abc"] == [0, 1, 2]
    assert enter(queue, "soon", 0.05) == 0
    assert enter(queue, "a") == 1


def test_who_has_its_token_makes_room() -> None:
    queue = Queue()
    for name in "abc":
        enter(queue, name)
    queue.leave("a")
    queue.leave("a")
    assert enter(queue, "c") == 1
    assert enter(queue, "d") == 2


def test_who_does_not_come_is_not_waited_for() -> None:
    queue = Queue()
    for name in "abc":
        enter(queue, name)
    after = 2 + GONE // STEP  # the time of a is over, and that of b just not yet
    assert enter(queue, "d", after=after) == 2
    assert enter(queue, "a", after=after) == 3


def test_ten_thousand_who_wait_come_once_each() -> None:
    queue = Queue()
    waits = [enter(queue, str(number)) for number in range(10_000)]
    assert waits == list(range(10_000))
