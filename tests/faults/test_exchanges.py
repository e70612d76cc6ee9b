"""kill -9 after each exchange with the CA, then the same command again (fault 41).

Nothing is issued twice, no key is lost, one account is made: invariants I1 to I3.
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

from certd import x509
from certd.secrets import Secret
from certd.store import Store
from certd.testing.exchanges import Exchange, Forward, Reply
from certd.testing.pebble import Pebble
from certd.testing.processes import Child
from certd.testing.proxy import FaultyCA
from tests.site import SECONDS, Site


class Killer:
    """Kills certd at its n-th exchange; the rule of a FaultyCA."""

    def __init__(self, number: int, *, delivered: bool) -> None:
        self.number = number
        self.struck = ""  # the kind of the exchange that was the last one
        self._delivered = delivered
        self._count = itertools.count(1)
        self._started = threading.Event()

    def aim(self, child: Child) -> None:
        self._child = child
        self._started.set()

    def __call__(self, exchange: Exchange, forward: Forward) -> Reply | None:
        if next(self._count) != self.number:
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
            os.kill(self._child.pid, signal.SIGKILL)


@dataclass
class Outcome:
    """What the CA and the store have after the second run."""

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


@pytest.mark.parametrize(
    "delivered",
    [
        pytest.param(False, id="the CA acted and its reply is lost"),
        pytest.param(True, id="the reply has arrived"),
    ],
)
def test_killed_after_each_exchange_it_goes_on_with_the_same_order(
    delivered: bool, start_pebble: Callable[..., Pebble], tmp_path: Path
) -> None:
    pebble = start_pebble(nonce_reject=0, authz_reuse=0, retry_after=(1, 1))
    outcomes: list[Outcome] = []
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        prepared = Site(tmp_path / "prepared", ca)
        Store.open(prepared.state).close()  # the tables are made once for all
        while not outcomes or outcomes[-1].struck:
            killer = Killer(len(outcomes) + 1, delivered=delivered)
            site = prepared.copy(tmp_path / f"site-{killer.number}")
            site.certificate("www", f"n{killer.number}.example.com", targets=["web"]).disk()
            outcomes.append(_kill_and_repeat(killer, site, ca, pebble))
            assert len(outcomes) < 40
    print("\n  n  killed after   orders finalized issued")
    print(*outcomes, sep="\n")
    # Every kind of exchange was one that certd was killed after.
    assert {"new-account", "new-order", "authorization", "challenge", "order", "finalize"} <= {
        outcome.struck for outcome in outcomes
    }


def _kill_and_repeat(killer: Killer, site: Site, ca: FaultyCA, pebble: Pebble) -> Outcome:
    before, seen = len(pebble.ledger()), len(ca.exchanges)
    ca.honest()
    ca.on(None, killer)
    with site.start("renew") as child:
        killer.aim(child)
        status = child.wait(SECONDS)
        assert status == 0 or (killer.struck and status == -signal.SIGKILL), child.output()
    ca.honest()
    site.renew()

    exchanges = ca.exchanges[seen:]
    acted = [item for item in exchanges if item.upstream and item.upstream.status < 300]
    where = f"killed after exchange {killer.number}, {killer.struck}"
    issued = pebble.ledger()[before:]
    assert len(issued) == 1, where
    bundle = site.bundle("www")
    assert bundle, where
    assert bundle.certificate.serial == issued[0].serial, where
    assert x509.pair_matches(bundle.leaf_pem, bundle.key_pem), where
    made = [item for item in acted if item.kind == "new-account" and _status(item) == 201]
    assert len(made) == 1, where
    assert len({item.protected["kid"] for item in acted if "kid" in item.protected}) == 1, where
    _check_target(site, bundle.leaf_pem, where)
    orders = sum(item.kind == "new-order" for item in acted)
    finalized = sum(item.kind == "finalize" for item in acted)
    # A lost answer to newOrder must be asked for again, and after the challenge was answered
    # the CA may have come while nobody was there. Nothing else makes another order.
    assert orders <= 1 + (killer.struck in ("new-order", "challenge")), where
    assert finalized == 1, where
    return Outcome(killer.number, killer.struck, orders, finalized, len(issued))


def _status(exchange: Exchange) -> int:
    return exchange.upstream.status if exchange.upstream else 0


def _check_target(site: Site, leaf_pem: str, where: str) -> None:
    current = site.folder / "web" / "www" / "current"
    fullchain, key = (current / name for name in ("fullchain.pem", "privkey.pem"))
    assert fullchain.read_text().startswith(leaf_pem), where
    assert x509.pair_matches(fullchain.read_text(), Secret(key.read_text())), where
