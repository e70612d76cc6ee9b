"""certd's own parts in this process, driven with a clock on which waiting costs nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certd import config as configuration
from certd import due
from certd.engine.node import Node
from certd.known import Lineage
from certd.model import CertificateSpec
from certd.store import Store
from certd.testing.exchanges import Act, Exchange, Forward, Reply
from certd.testing.processes import Stopped
from tests.site import Site

PAUSE = 0.03  # seconds really slept where certd waits: Pebble too needs a moment
REST = 50.0  # seconds: a wait that is longer ends an attempt
STEPS = 200  # of one attempt, at most: more would be a loop


def invalid(type: str) -> Act:
    """Every authorization has failed, with an error of this type (RFC 8555 section 8.2)."""
    challenge = {
        "type": "http-01",
        "url": "https://localhost/chalZ/x",
        "token": "A" * 43,
        "status": "invalid",
        "error": {"type": f"urn:ietf:params:acme:error:{type}", "detail": "no"},
    }
    return lambda _, forward: forward().but(status="invalid", challenges=[challenge])


def acted(change: Callable[[Reply], Reply | None], times: int = 1, skip: int = 0) -> Act:
    """So many of the answers that the CA acted for, changed; one refused for its nonce is none.

    ``skip`` of them are let through first.
    """
    numbers = itertools.count()

    def act(_: Exchange, forward: Forward) -> Reply | None:
        reply = forward()
        if reply.status >= 300 or next(numbers) not in range(skip, skip + times):
            return reply
        return change(reply)

    return act


def lost(_: Reply) -> None:
    """The connection is reset, with the answer."""


class Driver(Stopped):
    """Steps one certificate at a time, as a daemon would; a context manager."""

    def __init__(self, site: Site, draw: float = 0.5) -> None:
        config = configuration.load(site.path)
        self._ahead = timedelta(0)
        self.said: list[str] = []
        self.waits: list[float] = []  # seconds, from one step to the next
        self.gave_back = False  # the certificate, at the end of the last attempt
        self.store = Store.open(site.state)
        self.store.lineages.take_over(config.certificates, config.digest)
        self._node = Node(config, self.store, self._say, self.now, lambda: draw)
        self._node.listen()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def attempt(self, name: str) -> Lineage:
        """Until the certificate is settled or the attempt has failed."""
        assert self.store.leases.claim([name]) == [name]
        for _ in range(STEPS):
            look = self._node.reconciler.step(name)
            if look is None or look.seconds > REST:
                break
            self.waits.append(look.seconds)
            self._ahead += timedelta(seconds=look.seconds)
            time.sleep(min(look.seconds, PAUSE))
        else:
            raise AssertionError(f"{STEPS} steps and no end: {self.store.lineages.get(name)}")
        self.gave_back = look is None
        if look is not None:
            self.store.leases.release(name, None)
        return self.store.lineages.get(name)

    def step(self, name: str) -> float | None:
        """One step of a certificate that is claimed; the seconds until the next."""
        look = self._node.reconciler.step(name)
        return look.seconds if look else None

    def retry(self, name: str) -> Lineage:
        """The next attempt, at the time that was set for it.

        Where there is none before the operator acts, he has said `certd renew NAME`.
        """
        lineage = self.store.lineages.get(name)
        assert lineage.failure is not None, f"{name} is not waiting for another attempt"
        at = lineage.retry_at
        if at is None:  # no CA may be asked for now
            at = due.issuance(self.spec(name), lineage, self.now()).at
        if at >= due.NEVER:
            self.store.lineages.retry_now(name, self.now(), force=False)
        else:
            self._ahead += max(at - self.now(), timedelta(0))
        return self.attempt(name)

    def spec(self, name: str) -> CertificateSpec:
        return self._node.config.certificates[name]

    def tidy(self) -> None:
        self._node.tidy()

    def wait(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)

    def force(self, name: str) -> Lineage:
        """What ``certd renew --force`` does."""
        self.store.lineages.retry_now(name, self.now(), force=True)
        return self.attempt(name)

    def _say(self, name: str, text: str) -> None:
        self.said.append(f"{name}: {text}")

    def stop(self) -> None:
        self._node.stop()
        self.store.close()
