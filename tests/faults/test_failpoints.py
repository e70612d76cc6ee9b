"""SIGKILL at every failpoint of issuing, storing and deploying, then the same again (fault 41).

A sweep kills the n-th passing of a failpoint, n = 1, 2 … until a run survives. After each
kill, and after the run that follows, I1 to I5 hold and the CA's ledger equals the store.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults import invariants, scenes
from tests.faults.invariants import Books
from tests.faults.scenes import Scene
from tests.faults.world import World
from tests.site import Site
from tests.warm import Warm

ENOUGH = 100  # failpoints; a sweep ends at the first run that survives
COMMIT = "store: about to commit"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run and killed, what is run after it, and how both end if nothing kills them."""

    prepare: Callable[[Site, Warm, Pebble], None]  # the site as each run finds it
    run: tuple[str, ...]
    again: tuple[str, ...]
    ends: int = 0  # the exit status
    issues: bool = True  # else there is only something to deploy
    deployed: str = "verified"  # the state of the targets
    least: int = 20  # failpoints, of which there are at least so many
    begins: int = 1  # the number of its first failpoint, for those before are swept elsewhere
    until: str = ""  # where the sweep ends, for what follows is swept elsewhere
    # Failpoints that it is there for. What other threads do may have another number each time,
    # or come after ``until``: those that the sweep has not come by are gone to by name.
    passes: tuple[str, ...] = ()
    by_dns: bool = False  # the CA finds what is in the zones of tests.faults.world
    refuse: Callable[[FaultyCA], None] = FaultyCA.honest  # what the CA says no to at first
    # What is wrong at the CA in the run that is killed, and is put right for the one after.
    wrong: Callable[[Pebble], None] = lambda pebble: None
    right: Callable[[Pebble], None] = lambda pebble: None
    # What else holds in the end, of the site as the store has it.
    also: Callable[[Site, Pebble], None] = lambda site, pebble: None


FORCE = ("renew", "www", "--force")
REVOKE = ("revoke", "www", "--reason", "keyCompromise", "--yes")
SCENARIOS = {
    "first issuance": Scenario(scenes.from_nothing, ("renew",), ("renew",)),
    "renewal to two targets": Scenario(
        scenes.due, ("renew",), ("renew",), least=30, passes=("ordering: next key is kept",)
    ),
    "first issuance by TLS-ALPN-01": Scenario(
        scenes.by_tls, ("renew",), ("renew",), least=8, until="issue: challenge answered"
    ),
    "first issuance by DNS-01": Scenario(
        scenes.by_dns,
        ("renew",),
        ("renew",),
        least=8,
        begins=11,
        until="issue: challenge answered",
        passes=(
            "dns: record is kept",
            "dns: record is written",
            "dns: records are given up",
            "dns: record is removed",
        ),
        by_dns=True,
        also=scenes.assert_nothing_in_dns,
    ),
    "first issuance by TLS-ALPN-01, after HTTP-01 in vain": Scenario(
        scenes.by_another,
        ("renew",),
        ("renew",),
        least=8,
        until="setback: another challenge is kept",
        passes=("setback: another challenge is kept",),
    ),
    "forced renewal": Scenario(
        scenes.deployed, FORCE, ("renew",), least=8, until="issue: order URL is kept"
    ),
    "compromised key": Scenario(
        scenes.deployed,
        REVOKE,
        ("renew",),
        least=8,
        until="issue: key and CSR are kept",
        also=scenes.assert_revoked,
    ),
    "failed deployment, rolled back": Scenario(
        scenes.refused,
        ("renew",),
        ("renew", "www"),
        ends=1,
        issues=False,
        deployed="rolled-back",
        least=15,
    ),
    "another one found in place": Scenario(
        scenes.drifted,
        ("renew", "www"),
        ("renew", "www"),
        issues=False,
        least=5,
        passes=("rollout: look is kept",),
    ),
    "renewal that the CA refuses as it is": Scenario(
        scenes.due,
        ("renew",),
        ("renew",),
        least=15,
        until="issue: finalized",
        refuse=scenes.refuse,
        passes=(
            "issue: lifetime is left out",
            "issue: another profile is kept",
            "issue: replaces is left out",
            "issue: another key is kept",
        ),
    ),
    "failed validation": Scenario(
        scenes.unseen,
        ("renew",),
        ("renew", "www"),
        ends=1,
        least=10,
        wrong=scenes.lose,
        right=scenes.find,
    ),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One kill: where, what the CA had done in the end, and what the next run said."""

    number: int
    place: str
    orders: int
    issued: int
    said: str

    def __str__(self) -> str:
        return f"{self.number:>3}  {self.place:<45} {self.orders:>6} {self.issued:>6}  {self.said}"


@pytest.mark.fault(row=41)
@pytest.mark.parametrize("which", SCENARIOS)
def test_killed_at_every_failpoint_it_goes_on(
    which: str,
    start_pebble: Callable[..., Pebble],
    warm: Warm,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    scenario = SCENARIOS[which]
    world: World | None = request.getfixturevalue("world") if scenario.by_dns else None
    resolver = world.unbound.dns if world else None
    pebble = start_pebble(nonce_reject=0, authz_reuse=0, retry_after=(1, 1), dns_server=resolver)
    points: list[Point] = []
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca)
        if world:
            world.at(site, world.quick)
        scenario.prepare(site, warm, pebble)
        scene = Scene(site)
        scenario.refuse(ca)
        while point := _kill_and_repeat(scenario, scene.again(), points, warm, pebble):
            points.append(point)
            assert len(points) < ENOUGH
            if point.place == scenario.until:
                break
        for place in sorted(set(scenario.passes) - {point.place for point in points}):
            if point := _kill_and_repeat(scenario, scene.again(), points, warm, pebble, place):
                points.append(point)
    print(f"\n{which}\n  n  {'killed at':<45} orders issued  then")
    print(*points, sep="\n")
    assert len(points) >= scenario.least
    assert set(scenario.passes) <= {point.place for point in points}


def _kill_and_repeat(
    scenario: Scenario,
    site: Site,
    points: list[Point],
    warm: Warm,
    pebble: Pebble,
    place: str = "",
) -> Point | None:
    """At the next failpoint, or at this one. None: there is none, and the run has survived."""
    number = scenario.begins + len(points)
    before, versions = invariants.pairs_in_place(site, "www"), len(invariants.bundles(site, "www"))
    announced = invariants.next_pin(site, "www")
    books = Books.opened(pebble)
    scenario.wrong(pebble)
    killed = warm.certd(site, *scenario.run, CERTD_KILL_AT=place or str(number))
    scenario.right(pebble)
    if killed.returncode == scenario.ends:
        return None
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    place = killed.stderr.splitlines()[-1].partition(": ")[2]
    invariants.assert_old_or_new_in_place(site, "www", before)  # I1
    invariants.assert_no_key_is_lost(site, "www", books)  # I2
    invariants.assert_told(warm.status(site))  # I5

    done = warm.certd(site, *scenario.again)
    said = done.stdout.partition(", valid")[0].partition(" before ")[0]
    point = Point(number, place, books.orders, len(books.serials), said[:45])
    invariants.assert_store_equals_ledger(site, "www", versions, books)  # I2, I3
    if scenario.run in (FORCE, REVOKE) and number == 1:
        # The operator's word was not kept: nothing was asked for.
        assert point.issued == 0
        assert invariants.pairs_in_place(site, "www") == before
    else:
        assert point.issued == scenario.issues, point
        _check_end(scenario, site, before, warm.status(site), point)
        scenario.also(site, pebble)
        if announced and scenario.refuse is FaultyCA.honest:
            invariants.assert_used_and_another_made(site, "www", announced)
    _check_orders(scenario, points, point)
    return point


def _check_end(
    scenario: Scenario,
    site: Site,
    before: dict[str, str | None],
    status: invariants.Status,
    point: Point,
) -> None:
    """What was wanted is done; or is said to have failed, and is put back."""
    invariants.assert_told(status)  # I5
    entry = status["www"]
    assert {item["state"] for item in entry["targets"]} == {scenario.deployed}, point
    assert entry["state"] == ("ok" if scenario.deployed == "verified" else "failing"), point
    in_place = invariants.pairs_in_place(site, "www")  # I1
    if scenario.deployed == "rolled-back":
        assert in_place == before, point
    else:
        assert set(in_place.values()) == {entry["serial"]}, point
    with site.store() as store:
        assert store.tokens.published("www") == [], "a token was left behind"


def _check_orders(scenario: Scenario, points: list[Point], point: Point) -> None:
    """I4: one order; another where its URL was lost, or the CA had come to a closed door."""
    places = [earlier.place for earlier in points] + [point.place]
    since = next((place for place in reversed(places) if place != COMMIT), "")
    lost = since in ("issue: order made", "issue: challenge answered")
    failed = scenario.wrong is scenes.lose and "issue: challenge answered" in places
    assert point.orders <= (1 if point.issued else 0) + (lost or failed), point
