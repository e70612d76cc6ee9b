"""DNS servers that keep silent: nobody waits for them again and again, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from certd import silence
from certd.challenges import propagation
from certd.challenges.delegation import NameServer
from certd.challenges.propagation import Verdict, Wanted, wait_for
from certd.errors import ChallengeError
from certd.model import TxtRecord
from certd.silence import Silences
from tests.faults.namestub import NameStub

ZONE = "odd.test"
NAMES = [f"_acme-challenge.n{number}.{ZONE}" for number in range(30)]
TRY, PACE = 0.25, 1.0  # seconds


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[NameStub, NameStub]]:
    """Two of a zone that have all the records: one answers, the other is silent."""
    monkeypatch.setattr(propagation, "TRY_SECONDS", TRY)
    monkeypatch.setattr(propagation, "LONGEST", TRY)
    monkeypatch.setattr(silence, "LEFT_ALONE", PACE)
    with contextlib.ExitStack() as stack:
        well = stack.enter_context(NameStub(ZONE, tmp_path))
        silent = stack.enter_context(NameStub(ZONE, tmp_path, "127.0.0.2", well.port))
        well.file.write_text("".join(f"{name} value\n" for name in NAMES))
        silent.every = lambda *_: None
        yield well, silent


def wait(well: NameStub, seconds: float) -> list[BaseException | None]:
    """What became of all the records of one order, after so many seconds at most."""
    servers = [NameServer("ns1", ("127.0.0.1",)), NameServer("ns2", ("127.0.0.2",))]

    async def turn(question: Awaitable[Verdict]) -> Verdict:
        return await question

    async def all_of_them() -> list[BaseException | None]:
        silences, until = Silences(), asyncio.get_running_loop().time() + seconds
        waits = (
            wait_for(
                Wanted.record(TxtRecord(ZONE, name, "value", 0), ZONE),
                *(servers, well.port, "all", until, lambda _: None, turn, silences),
            )
            for name in NAMES
        )
        return await asyncio.gather(*waits, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_a_silent_server_is_asked_at_a_pace_of_its_own_however_many_records_there_are(
    servers: tuple[NameStub, NameStub],
) -> None:
    well, silent = servers
    seconds = 4.0
    begun = time.monotonic()
    found = wait(well, seconds)
    took = time.monotonic() - begun
    for error in found:
        assert isinstance(error, ChallengeError)
        assert "ns2 does not answer at 127.0.0.2" in error.why
    assert len(well.asked) == len(NAMES)
    first = len(NAMES) * propagation.TRIES  # nothing is known of it then
    later = propagation.TRIES * (took / PACE + 1)
    assert first <= len(silent.asked) <= first + later


def test_a_server_that_speaks_again_is_asked_for_all_records_at_once(
    servers: tuple[NameStub, NameStub],
) -> None:
    well, silent = servers
    first = len(NAMES) * propagation.TRIES

    def speak(*arguments: object) -> bytes | None:
        if len(silent.asked) >= first:
            silent.honest()
        return None

    silent.every = speak
    begun = time.monotonic()
    assert wait(well, 60.0) == [None] * len(NAMES)
    assert time.monotonic() - begun < 30.0
    assert len(silent.asked) < first + len(NAMES) + 3 * propagation.TRIES
