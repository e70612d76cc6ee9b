"""kill -9 at each exchange with the CA, before and after its reply, then the same again (fault 41).

Nothing is issued twice, no key is lost, one account is made: invariants I1 to I5.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.proxy import FaultyCA
from tests.faults import invariants, scenes
from tests.faults.invariants import Books
from tests.faults.scenes import Scene
from tests.site import Site
from tests.warm import SECONDS, Warm

ISSUED = {"new-order", "authorization", "challenge", "order", "finalize", "certificate"}
SCENES = {
    "first issuance": (scenes.from_nothing, ISSUED | {"new-account", "renewal-info"}),
    "renewal": (scenes.due, ISSUED | {"renewal-info"}),
}


class Killer:
    """Kills certd at its n-th exchange, or the first of a kind; the rule of a FaultyCA."""

    def __init__(self, number: int, kind: str = "none", *, delivered: bool) -> None:
        self.number = number
        self._kind = kind
        self.struck = ""  # the kind of the exchange that was the last one
        self._delivered = delivered
        self._count = itertools.count(1)
        self._started, self._killed = threading.Event(), threading.Event()

    def aim(self, pid: int) -> None:
        self._pid = pid
        self._started.set()

    def __call__(self, exchange: Exchange, forward: Forward) -> Reply | None:
        count = next(self._count)
        if exchange.kind == self._kind and not self.struck:
            self.number = count
        if count > self.number:  # sent between the reply and the kill: the CA never sees it
            self._killed.wait(SECONDS)
            return None
        if count < self.number:
            return forward()
        self.struck = exchange.kind
        self._started.wait(SECONDS)
        reply = forward()
        if self._delivered:
            return Reply(reply.status, reply.headers, reply.body, then=self._kill)
        self._kill()
        return None

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have come to its end
            os.kill(self._pid, signal.SIGKILL)
        self._killed.set()


@dataclass
class Outcome:
    """What the CA has done by the end of the second run."""

    number: int
    struck: str
    orders: int
    finalized: int
    issued: int

    def __str__(self) -> str:
        return (
            f"{self.number:>3}  {self.struck or '(survived)':<14} {self.orders:>6} "
            f"{self.finalized:>9} {self.issued:>6}"
        )


@pytest.mark.fault(row=41)
@pytest.mark.parametrize(
    "delivered",
    [
        pytest.param(False, id="the CA acted and its reply is lost"),
        pytest.param(True, id="the reply has arrived"),
    ],
)
@pytest.mark.parametrize("which", SCENES)
def test_killed_at_each_exchange_it_goes_on_with_the_same_order(
    which: str, delivered: bool, start_pebble: Callable[..., Pebble], warm: Warm, tmp_path: Path
) -> None:
    prepare, kinds = SCENES[which]
    pebble = start_pebble(nonce_reject=0, authz_reuse=0, retry_after=(1, 1))
    outcomes: list[Outcome] = []
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        site = Site(tmp_path / "site", ca)
        prepare(site, warm, pebble)
        scene = Scene(site)
        while not outcomes or outcomes[-1].struck:
            killer = Killer(len(outcomes) + 1, delivered=delivered)
            outcomes.append(_kill_and_repeat(killer, scene.again(), ca, warm))
            assert len(outcomes) < 40
        # A look more or less at the order moves what comes after it: what was missed, by its name.
        for kind in sorted(kinds - {outcome.struck for outcome in outcomes}):
            killer = Killer(1000, kind, delivered=delivered)
            outcomes.append(_kill_and_repeat(killer, scene.again(), ca, warm))
    print(f"\n{which}\n  n  killed after   orders finalized issued")
    print(*outcomes, sep="\n")
    assert kinds <= {outcome.struck for outcome in outcomes}


def _kill_and_repeat(killer: Killer, site: Site, ca: FaultyCA, warm: Warm) -> Outcome:
    assert isinstance(ca.pebble, Pebble)
    books, seen = Books.opened(ca.pebble), len(ca.exchanges)
    before, versions = invariants.pairs_in_place(site, "www"), len(invariants.bundles(site, "www"))
    ca.honest()
    ca.on(None, killer)
    first = warm.certd(site, "renew", started=killer.aim)
    status = first.returncode
    assert status == 0 or (killer.struck and status == -signal.SIGKILL), first.stderr
    where = f"killed at exchange {killer.number}, {killer.struck}"
    invariants.assert_old_or_new_in_place(site, "www", before)  # I1
    invariants.assert_no_key_is_lost(site, "www", books)  # I2
    invariants.assert_told(warm.status(site))  # I5
    ca.honest()
    done = warm.certd(site, "renew")
    assert done.returncode == 0, f"{where}: {done.stdout}"

    invariants.assert_store_equals_ledger(site, "www", versions, books)  # I2, I3
    [serial] = books.serials
    assert set(invariants.pairs_in_place(site, "www").values()) == {serial}, where  # I1
    invariants.assert_told(warm.status(site))  # I5
    acted = [item for item in ca.exchanges[seen:] if item.upstream and item.upstream.status < 300]
    made = [item for item in acted if item.kind == "new-account" and _status(item) == 201]
    assert len(made) == (0 if versions else 1), where
    assert len({item.protected["kid"] for item in acted if "kid" in item.protected}) == 1, where
    finalized = sum(item.kind == "finalize" for item in acted)
    assert finalized == 1, where
    # A lost answer to newOrder must be asked for again, and after the challenge was answered
    # the CA may have come while nobody was there. Nothing else makes another order.
    more = killer.struck == "new-order" or _awaited(ca.exchanges[seen:][: killer.number])
    assert books.orders <= 1 + more, where  # I4
    return Outcome(killer.number, killer.struck, books.orders, finalized, len(books.serials))


def _awaited(exchanges: list[Exchange]) -> bool:
    """Whether the CA had been told to come, and had not said yet that it has been there."""
    last = exchanges[-1]
    if last.kind == "challenge" or not last.upstream:
        return last.kind == "challenge"
    return any(item.kind == "challenge" for item in exchanges) and (
        b'"pending"' in last.upstream.body
    )


def _status(exchange: Exchange) -> int:
    return exchange.upstream.status if exchange.upstream else 0
