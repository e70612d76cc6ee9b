"""DNS servers that keep silent: nobody waits for them again and again, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certd import doctor, preflight, silence
from certd.challenges import delegation, propagation
from certd.challenges.delegation import NameServer
from certd.challenges.propagation import Verdict, Wanted, wait_for
from certd.doctor import Findings
from certd.errors import ChallengeError
from certd.model import CertificateSpec, TxtRecord
from certd.silence import Silences
from certd.testing.pebble import RunningPebble
from tests.faults.driving import Driver
from tests.faults.namestub import NameStub
from tests.site import Site

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
    # Once more each, in as many tries as an answer takes that is late; one had asked meanwhile.
    assert len(silent.asked) <= first + (len(NAMES) + 1) * propagation.TRIES


# -- a resolver ------------------------------------------------------------------------------


@pytest.fixture
def no_answer() -> Iterator[str]:
    """A DNS server that takes questions and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_resolver_that_is_away_holds_nobody_up_for_long(
    pebble: RunningPebble, no_answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread has twelve certificates to see to that need it, and then one that does not."""
    for module, name in ((doctor, "SECONDS"), (delegation, "SECONDS")):
        monkeypatch.setattr(module, name, 0.75)
    looked: list[CertificateSpec] = []
    examine = doctor.examine

    def counted(spec: CertificateSpec, *rest: Any) -> Findings:
        looked.append(spec)
        return examine(spec, *rest)

    monkeypatch.setattr(preflight, "examine", counted)
    monkeypatch.setattr(silence, "LEFT_ALONE", 60.0)
    site = Site(tmp_path / "site", pebble)
    site.tables["certd"]["resolver"] = no_answer
    site.tables["dns.main"] = {"provider": "exec", "argv": ["/bin/true"]}
    names = [f"dns{number}" for number in range(12)]
    for name in names:
        site.certificate(name, f"{name}.example.com", challenge="dns-01")
    site.certificate("web", "www.example.com", self_check=False)
    with Driver(site) as driver:
        failures = [driver.attempt(name).failure for name in names]
        assert driver.attempt("web").current is not None
    assert len(looked) == silence.ENOUGH
    first, last = failures[0], failures[-1]
    assert first is not None
    assert "no answer in time" in first.why
    assert last is not None
    assert "kept silent to other certificates a moment ago" in last.why
    assert "resolver in [certd]" in last.next
