"""One certd process at work: responder, CAs, reconciler and threads around one store.

The daemon, ``certd renew`` and ``certd.Certd`` differ only in what they give it to do.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certd import crls, revocation, standing
from certd.ca.clients import Clients
from certd.ca.local import LocalCA
from certd.config import Config, refused_names
from certd.engine.distributing import Distribution
from certd.engine.following import Followers
from certd.engine.local import LocalEngine
from certd.engine.publishing import Showing
from certd.engine.zones import Zones
from certd.errors import CertdError
from certd.known import Revocation
from certd.ordering import Say
from certd.reconcile import Reconciler
from certd.showing import Publisher, clean_up
from certd.store import Store
from certd.systemd import NONE_PASSED, Passed

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0  # for running steps to come to an end; what remains resumes later
# Of these for a look for revocations: what it was asking is asked again at the next start.
WATCH_SECONDS = 2.0
DUE_TICK = 2.0  # seconds between looks for what is due; one costs one indexed query
WATCH_TICK = 60.0  # seconds between looks for revocations
TIDY_TICK = 20.0  # seconds between looks for what killed processes left behind
ROOTS = timedelta(days=1)  # between looks for roots of our own that end
IN_FLIGHT = 2000  # certificates leased at once: the rest wait in the store, not in memory


def now() -> datetime:
    return datetime.now(UTC)


class Node:
    """Holds the running parts; ``start`` and ``stop`` are for once each."""

    def __init__(
        self,
        config: Config,
        store: Store,
        say: Say,
        clock: Callable[[], datetime] = now,
        draw: Callable[[], float] = random.random,
        *,
        attended: bool = False,
    ) -> None:
        """``attended``: somebody is there, and may be asked to do something by hand."""
        self.store = store
        self.config = config
        self._clock = clock
        self._draw = draw
        self._roots_at = datetime.min.replace(tzinfo=UTC)
        self.zones = Zones(config, store, say, self._hurry, clock, attended=attended)
        self._showing = Showing(config, store, self._served, self.zones)
        self._clients = self._clients_of(config)
        self._followers = Followers(store, self.take_due, clock, draw)
        self._distribution: Distribution | None = None
        self.reconciler = Reconciler(
            config,
            store,
            self._clients,
            self.publisher(config),
            clock,
            draw,
            say,
            attended=attended,
        )
        self.engine = LocalEngine(self.reconciler.step, config.workers)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(
            target=self._keep_watching, name="certd-watch", daemon=True
        )

    def listen(self, passed: Passed = NONE_PASSED) -> None:
        """Start what listens all the time: for HTTP-01, if that is used, and what systemd opened.

        Raises:
            ChallengeError: nobody here can answer the CA.
        """
        self._showing.listen_by_tls(passed.tls_alpn)
        if passed.http or self.config.listens:
            self._showing.listen(self.config, passed.http)

    def distribute(self) -> None:
        """Give other machines their certificates, if that is configured.

        Raises:
            ChallengeError: an address cannot be had.
        """
        if self.config.distribution is not None:
            self._distribution = Distribution(self.config, self.config.distribution, self.store)
            self._distribution.start()

    def start(self) -> None:
        """Start the threads."""
        _warn(self.config)
        self.tidy()
        self.engine.start()

    def tidy(self) -> None:
        """Take over from killed processes: their leases, and the tokens they left behind."""
        self.store.leases.free_the_dead()
        self.store.budgets.forget_the_full(self._clock())
        self.store.parks.forget(self._clock())
        self.store.authorities.forget_expired(self._clock())
        self._look_at_roots(self._clock())
        for name in self.store.tokens.orphaned(self._clock()):
            clean_up(name, self.store, self.publisher(self.config))
        self.store.records.give_up_orphaned(self._clock())
        self.zones.removals.sweep()

    def _look_at_roots(self, now: datetime) -> None:
        """Once a day: those of our own CAs do not end without being told to."""
        if now < self._roots_at:
            return
        self._roots_at = now + ROOTS
        for name in self.config.own_cas:
            for _, ends in self.store.authorities.roots(name)[:1]:
                if text := standing.root_ending(name, ends, now):
                    log.warning("%s", text)

    def revoke(self, asked: Revocation) -> str:
        """Ask the CA that issued it; see ``certd.revocation.ask``."""
        return revocation.ask(asked, self.store, self._clients, self.config.cas, self._clock())

    def watch(self, seconds: float) -> None:
        """Ask for revocations that are still to be asked for, and look at the CAs' lists.

        Each has half of ``seconds``, after which nothing is begun, nor is it when this stops:
        what is due then waits for the next time.
        """
        cas, clock = self.config.cas, self._clock
        revocation.resume(
            self.store, self._clients, cas, self._draw, clock(), self._over(seconds / 2)
        )
        crls.look(self.store, cas, self._draw, clock, self._over(seconds / 2))

    def keep_watching(self) -> None:
        """Do so again and again, from now on, in a thread of its own: a CA or a server of lists
        that keeps silent holds up nothing else. And follow the hubs from which certificates come.
        """
        self._watcher.start()
        self._followers.follow(self.config)

    def _keep_watching(self) -> None:
        while not self._stopping.is_set():
            try:
                self.watch(WATCH_TICK)
            except Exception as error:  # the boundary of a job: the next look tries again
                if self._stopping.is_set():
                    return  # the store is closed
                if isinstance(error, CertdError):
                    log.error("cannot look what is revoked: %s", error)
                else:
                    log.exception("this is a bug in certd, please report it")
            self._stopping.wait(WATCH_TICK)

    def _over(self, seconds: float) -> Callable[[], bool]:
        until = time.monotonic() + seconds
        return lambda: self._stopping.is_set() or time.monotonic() >= until

    def take_due(self) -> None:
        """Lease what is due now, and begin with it."""
        room = IN_FLIGHT - self.engine.in_flight()
        if room > 0:
            self.engine.add(self.store.leases.claim_due(self._clock(), room))

    def follow(self, config: Config) -> None:
        """Go over to another configuration; what is under way goes on."""
        if config.http.listening != self.config.http.listening:
            log.warning("[http] has changed: restart certd to listen and redirect so")
        self.store.lineages.take_over(config.certificates, config.digest, config.table_digests)
        # Those of before stay for what is under way, and go with it.
        self._clients = self._clients_of(config)
        self.zones.follow(config)
        self.reconciler.follow(config, self._clients, self.publisher(config))
        self.config = config
        self._distribute_as(config)
        if self._watcher.is_alive():
            self._followers.follow(config)
        _warn(config)

    def _distribute_as(self, config: Config) -> None:
        if self._distribution is not None:
            self._distribution.follow(config)
        elif config.distribution is not None:
            log.warning("[distribution] is new: restart certd to listen there")

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Begin nothing new, end what runs; False when something still ran after ``seconds``."""
        deadline = time.monotonic() + seconds
        self._stopping.set()
        if self._distribution is not None:
            self._distribution.stop()
        self._followers.stop()
        stopped = self.engine.stop(seconds)
        if self._watcher.is_alive():
            self._watcher.join(max(0.0, min(WATCH_SECONDS, deadline - time.monotonic())))
            stopped = stopped and not self._watcher.is_alive()
        self.zones.removals.finish(max(0.0, min(WATCH_SECONDS, deadline - time.monotonic())))
        self._showing.stop()
        if stopped:
            self._clients.close()
        return stopped

    def _clients_of(self, config: Config) -> Clients:
        return Clients(config.cas, self.store.accounts, config.contact, local=self._local_ca)

    def _local_ca(self, name: str, lifetime: timedelta) -> LocalCA:
        return LocalCA(name, lifetime, self.store.authorities, self._clock)

    def publisher(self, config: Config) -> Publisher:
        """How challenges are shown to CAs, as this configuration wants it."""
        return self._showing.publisher(config)

    def _served(self, token: str) -> None:
        name = self.reconciler.served(token)
        if name is not None:
            self._hurry(name)

    def _hurry(self, name: str) -> None:
        self.engine.hurry(name)


def _warn(config: Config) -> None:
    for finding in (*config.lacking, *refused_names(config, config.certificates)):
        log.warning("%s", finding)
