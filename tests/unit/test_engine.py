"""Who runs what when: threads, a queue of due times, and hurry."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from certd.engine.local import SPARES, LocalEngine
from certd.looks import Look

DEADLINE = 20.0  # seconds; nothing here takes a tenth of it
LONG = 60.0  # seconds: a wait that a test does not live to see the end of

Step = Callable[[str], Look | None]


class Script:
    """What each step of a certificate answers, in turn; then None. Notes when it was asked."""

    def __init__(self, **looks: list[Look | None]) -> None:
        self._looks = {name: iter(answers) for name, answers in looks.items()}
        self.asked: dict[str, list[float]] = defaultdict(list)

    def __call__(self, name: str) -> Look | None:
        self.asked[name].append(time.monotonic())
        return next(self._looks.get(name, iter(())), None)

    def count(self, name: str) -> int:
        return len(self.asked[name])


@pytest.fixture
def start() -> Iterator[Callable[..., LocalEngine]]:
    engines: list[LocalEngine] = []

    def started(step: Step, threads: int = 2) -> LocalEngine:
        engine = LocalEngine(step, threads)
        engines.append(engine)
        engine.start()
        return engine

    yield started
    for engine in engines:
        assert engine.stop(DEADLINE)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


Start = Callable[..., LocalEngine]


def test_it_steps_until_it_settles(start: Start) -> None:
    script = Script(www=[Look(0.0), Look(0.02), None])
    engine = start(script)
    engine.add(["www"])
    until(lambda: not engine.in_flight())
    assert script.count("www") == 3
    first, second, third = script.asked["www"]
    assert first <= second < third - 0.015


def test_what_waits_holds_no_thread(start: Start) -> None:
    names = [f"c{number}" for number in range(50)]
    looks: dict[str, list[Look | None]] = {name: [Look(LONG)] for name in names}
    script = Script(**looks)
    engine = start(script, threads=1)
    engine.add(names)
    until(lambda: len(script.asked) == 50)
    engine.add(["quick"])
    until(lambda: script.count("quick") == 1 and not engine.has("quick"))
    assert engine.in_flight() == 50
    assert engine.has("c7")


def test_the_earliest_goes_first(start: Start) -> None:
    script = Script(late=[Look(0.1)], early=[Look(0.02)])
    engine = start(script, threads=1)
    engine.add(["late", "early"])
    until(lambda: not engine.in_flight())
    assert script.asked["early"][1] < script.asked["late"][1]


@pytest.mark.parametrize(
    ("look", "hurried"),
    [
        pytest.param(Look(LONG, hurry=True), True, id="a wait of our own choice"),
        pytest.param(Look(LONG), False, id="a wait that the CA asked for"),
    ],
)
def test_hurry_only_shortens_the_waits_that_it_may(start: Start, look: Look, hurried: bool) -> None:
    script = Script(www=[look])
    engine = start(script)
    engine.add(["www"])
    until(lambda: script.count("www") == 1 and engine.has("www") and _idle(engine))
    engine.hurry("www")
    if hurried:
        until(lambda: not engine.has("www"))
    else:
        engine.add(["other"])
        until(lambda: script.count("other") == 1)
        time.sleep(0.05)
    assert script.count("www") == 1 + hurried


def _idle(engine: LocalEngine) -> bool:
    return not engine._running


@pytest.mark.parametrize(
    ("look", "hurried"),
    [
        pytest.param(Look(LONG, hurry=True), True, id="a wait of our own choice"),
        pytest.param(Look(LONG), False, id="a wait that the CA asked for"),
    ],
)
def test_hurry_during_the_step_is_remembered(start: Start, look: Look, hurried: bool) -> None:
    """The CA may fetch the token before the step that answered the challenge has returned."""
    running, go_on = threading.Event(), threading.Event()
    counts = {"www": 0}

    def step(name: str) -> Look | None:
        counts[name] += 1
        if counts[name] > 1:
            return None
        running.set()
        go_on.wait(DEADLINE)
        return look

    engine = start(step)
    engine.add(["www"])
    assert running.wait(DEADLINE)
    engine.hurry("www")
    go_on.set()
    until(lambda: _idle(engine))
    if hurried:
        until(lambda: counts["www"] == 2)
    else:
        time.sleep(0.05)
        assert counts["www"] == 1


def test_hurry_for_what_is_not_here_does_nothing(start: Start) -> None:
    script = Script()
    engine = start(script)
    engine.hurry("stranger")
    engine.add(["www"])
    until(lambda: not engine.in_flight())
    assert script.count("stranger") == 0


def test_a_second_entry_takes_the_place_of_the_first(start: Start) -> None:
    script = Script(www=[Look(LONG)])
    engine = start(script)
    engine.add(["www"])
    until(lambda: script.count("www") == 1 and _idle(engine))
    engine.add(["www"])
    until(lambda: not engine.in_flight())
    assert script.count("www") == 2


def test_one_certificate_is_never_in_two_threads(start: Start) -> None:
    inside: list[str] = []
    overlaps: list[str] = []
    counts: dict[str, int] = defaultdict(int)

    def step(name: str) -> Look | None:
        if name in inside:
            overlaps.append(name)
        inside.append(name)
        time.sleep(0.001)
        inside.remove(name)
        counts[name] += 1
        return Look(0.0, hurry=True) if counts[name] < 20 else None

    engine = start(step, threads=8)
    names = [f"c{number}" for number in range(10)]
    engine.add(names)
    while engine.in_flight():
        for name in names:
            engine.hurry(name)
        engine.wait(0.001)
    assert not overlaps
    assert set(counts.values()) == {20}


def test_wait_returns_when_one_has_settled(start: Start) -> None:
    engine = start(Script(www=[Look(0.02)]))
    engine.wait(LONG)  # nothing to wait for
    engine.add(["www"])
    begun = time.monotonic()
    while engine.in_flight():
        engine.wait(LONG)
    assert time.monotonic() - begun < DEADLINE


def test_stop_begins_nothing_new_and_says_what_still_runs() -> None:
    running, go_on = threading.Event(), threading.Event()
    script = Script()

    def step(name: str) -> Look | None:
        script(name)
        running.set()
        go_on.wait(DEADLINE)
        return Look(0.0)

    engine = LocalEngine(step, 1)
    engine.start()
    engine.add(["www", "next"])
    assert running.wait(DEADLINE)
    assert not engine.stop(0.05), "it says that something still ran"
    go_on.set()
    assert engine.stop(DEADLINE)
    assert sum(map(len, script.asked.values())) == 1


def test_stop_wakes_what_waits() -> None:
    engine = LocalEngine(Script(www=[Look(LONG)]), 4)
    engine.start()
    engine.add(["www"])
    begun = time.monotonic()
    assert engine.stop(DEADLINE)
    assert time.monotonic() - begun < DEADLINE
    assert engine.stop(DEADLINE), "a second stop is fine"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_noticed() -> None:
    def step(name: str) -> Look | None:
        raise RuntimeError("a bug")

    engine = LocalEngine(step, 1)
    engine.start()
    assert engine.alive()
    engine.add(["www"])
    until(lambda: not engine.alive())
    assert engine.stop(DEADLINE)


# Steps that last

PATIENCE = 0.05  # seconds


class Waiting:
    """Steps of names that begin with "slow" last until they are let go; others take none."""

    def __init__(self, script: Script | None = None) -> None:
        self.go_on = threading.Event()
        self.inside: list[str] = []
        self._script = script or Script()

    def __call__(self, name: str) -> Look | None:
        if name.startswith("slow"):
            self.inside.append(name)
            self.go_on.wait(DEADLINE)
            self.inside.remove(name)
        return self._script(name)


@pytest.fixture
def slow() -> Iterator[Callable[..., LocalEngine]]:
    engines: list[LocalEngine] = []

    def started(step: Step, threads: int) -> LocalEngine:
        engines.append(LocalEngine(step, threads, PATIENCE))
        engines[-1].start()
        return engines[-1]

    yield started
    for engine in engines:
        assert engine.stop(DEADLINE)


def test_steps_that_last_hold_up_no_other(slow: Start) -> None:
    waiting = Waiting()
    engine = slow(waiting, 2)
    engine.add([f"slow{number}" for number in range(7)])
    engine.add(["www", "mail"])
    until(lambda: not engine.has("www") and not engine.has("mail"))
    assert engine.alive()
    waiting.go_on.set()
    until(lambda: not engine.in_flight())


def test_there_are_only_so_many_spares_and_they_end(slow: Start) -> None:
    waiting = Waiting()
    engine = slow(waiting, 1)
    engine.add([f"slow{number}" for number in range(20)])
    until(lambda: len(waiting.inside) == 1 + SPARES)
    time.sleep(3 * PATIENCE)
    assert len(waiting.inside) == 1 + SPARES == len(engine._threads)
    waiting.go_on.set()
    until(lambda: not engine.in_flight() and len(engine._threads) == 1)
    assert engine.alive()
    engine.add(["www"])
    until(lambda: not engine.has("www"))


def test_what_was_slow_waits_for_a_spare_and_not_for_a_thread_of_the_others(slow: Start) -> None:
    """Each comes again and again; only their first steps may take the others' threads."""
    names = [f"slow{number}" for number in range(20)]
    looks: dict[str, list[Look | None]] = {name: [Look(0.0)] * 1000 for name in names}
    script = Script(**looks)

    def step(name: str) -> Look | None:
        if name.startswith("slow") and not finish.is_set():
            time.sleep(2 * PATIENCE)
        return None if finish.is_set() else script(name)

    finish = threading.Event()
    engine = slow(step, 1)
    engine.add(names)
    until(lambda: len(script.asked) == 20)
    begun = time.monotonic()
    for number in range(20):
        engine.add([f"www{number}"])
        until(lambda name=f"www{number}": not engine.has(name))  # type: ignore[misc]
    took = time.monotonic() - begun
    finish.set()
    until(lambda: not engine.in_flight())
    assert took < 10 * PATIENCE


def test_what_was_slow_once_is_like_the_others_again(slow: Start) -> None:
    waiting = Waiting(Script(slow=[Look(0.0), Look(LONG)]))
    engine = slow(waiting, 1)
    engine.add(["slow"])
    until(lambda: "slow" in engine._slow)
    waiting.go_on.set()
    until(lambda: "slow" not in engine._slow and _idle(engine))
    assert engine.has("slow")


def test_a_thread_that_cannot_be_had_is_done_without(
    slow: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    waiting = Waiting()
    engine = slow(waiting, 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    engine.add(["slow", "www"])
    until(lambda: "no more threads" in caplog.text)
    assert engine.alive()
    waiting.go_on.set()
    until(lambda: not engine.in_flight())


def test_what_is_leased_again_before_its_step_has_ended_is_stepped_after_it(start: Start) -> None:
    """It was given back, and became due: another thread may take it at once, but not step it."""
    at_work, most, steps = 0, 0, 0

    def step(name: str) -> Look | None:
        nonlocal at_work, most, steps
        at_work, steps = at_work + 1, steps + 1
        most = max(most, at_work)
        if steps == 1:
            engine.add([name])
            time.sleep(0.1)  # in which another thread would have begun
        at_work -= 1
        return None

    engine = start(step)
    engine.add(["www"])
    until(lambda: steps == 2 and not engine.in_flight())
    assert most == 1
    assert engine.alive()
