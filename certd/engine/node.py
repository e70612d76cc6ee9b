"""One certd process at work: responder, CAs, reconciler and threads around one store.

The daemon, ``certd renew`` and ``certd.Certd`` differ only in what they give it to do.
"""

from __future__ import annotations

import http.client
import logging
import random
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from certd import crls, revocation
from certd.authorize import Publisher, clean_up
from certd.ca.clients import Clients
from certd.ca.local import LocalCA
from certd.challenges.http01 import (
    PortTaken,
    Responder,
    Webroot,
    nothing_else,
    open_sockets,
    to_https,
)
from certd.challenges.selfcheck import SelfCheck, Way
from certd.config import Config
from certd.engine.local import LocalEngine
from certd.model import Revocation
from certd.ordering import Say
from certd.reconcile import Reconciler
from certd.secrets import Secret
from certd.store import Store

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0  # for running steps to come to an end; what remains resumes later
PROBE_SECONDS = 3.0
DUE_TICK = 2.0  # seconds between looks for what is due; one costs one indexed query
WATCH_TICK = 60.0  # seconds between looks for revocations
TIDY_TICK = 20.0  # seconds between looks for what killed processes left behind
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
    ) -> None:
        self.store = store
        self.config = config
        self._clock = clock
        self._draw = draw
        otherwise = to_https if config.http.redirect else nothing_else
        self._responder = Responder(store.tokens.answer, self._served, otherwise=otherwise)
        self._self_check = SelfCheck()
        self._listening = False
        self._listen_lock = threading.Lock()
        self._clients = self._clients_of(config)
        self.reconciler = Reconciler(
            config, store, self._clients, self._publisher(config), clock, draw, say
        )
        self.engine = LocalEngine(self.reconciler.step, config.workers)

    def listen(self, passed: Sequence[socket.socket] = ()) -> None:
        """Start the responder: on sockets from systemd, or as configured.

        Where the port is taken by another certd with the same store (the daemon, when
        this is ``certd renew``), that one answers for us, for as long as it is there.

        Raises:
            ChallengeError: nobody here can answer the CA.
        """
        if self.config.http.webroot is None:
            with self._listen_lock:
                if not self._listening:
                    self._listen(passed)

    def _listen(self, passed: Sequence[socket.socket]) -> None:
        addresses = [(address.host, address.port) for address in self.config.http.listen]
        try:
            sockets = list(passed) or open_sockets(addresses)
        except PortTaken:
            if not all(self._answered_elsewhere(host, port) for host, port in addresses):
                raise
            log.info("the running certd answers the CA's questions")
            return
        self._responder.start(sockets)
        self._listening = True

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
        for name in self.store.tokens.orphaned(self._clock()):
            clean_up(name, self.store, self._publisher(self.config))

    def revoke(self, asked: Revocation) -> str:
        """Ask the CA that issued it; see ``certd.revocation.ask``."""
        return revocation.ask(asked, self.store, self._clients, self.config.cas, self._clock())

    def watch(self, seconds: float) -> None:
        """Ask for revocations that are still to be asked for, and look at the CAs' lists.

        No list is begun with after ``seconds``: what is due then waits for the next time.
        """
        cas, clock = self.config.cas, self._clock
        revocation.resume(self.store, self._clients, cas, self._draw, clock())
        crls.look(self.store, cas, self._draw, clock, seconds)

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
        self.reconciler.follow(config, self._clients, self._publisher(config))
        self.config = config
        _warn(config)

    def stop(self) -> bool:
        """Begin nothing new, end what runs; False when something still ran after a while."""
        stopped = self.engine.stop(STOP_SECONDS)
        self._responder.stop()
        self._self_check.stop()
        if stopped:
            self._clients.close()
        return stopped

    def _clients_of(self, config: Config) -> Clients:
        return Clients(config.cas, self.store.accounts, config.contact, local=self._local_ca)

    def _local_ca(self, name: str, lifetime: timedelta) -> LocalCA:
        return LocalCA(name, lifetime, self.store.authorities, self._clock)

    def _publisher(self, config: Config) -> Publisher:
        webroot = config.http.webroot
        shown = _OnDemand(self._responder, self.listen) if webroot is None else Webroot(webroot)
        return _Shown(shown, self._self_check, config)

    def _served(self, token: str) -> None:
        name = self.reconciler.served(token)
        if name is not None:
            self.engine.hurry(name)

    def _answered_elsewhere(self, host: str, port: int) -> bool:
        """Whether whoever listens there answers from our store: asked with a token of ours."""
        token, answer = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        probe = self.store.tokens.apart("probe ")
        name = secrets.token_hex(8)
        probe.publish(name, {token: Secret(answer)}, self._clock())
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
        connection = http.client.HTTPConnection(local, port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", f"/.well-known/acme-challenge/{token}")
            return connection.getresponse().read(len(answer) + 1) == answer.encode()
        except (OSError, http.client.HTTPException):
            # A family that this machine lacks is nobody's, and so no obstacle.
            return host == "::"
        finally:
            connection.close()
            probe.withdraw(name)


class _Shown:
    """What is published, and our own looks at it, as this configuration wants them."""

    def __init__(
        self, publisher: Webroot | _OnDemand, self_check: SelfCheck, config: Config
    ) -> None:
        self._publisher = publisher
        self._self_check = self_check
        self._config = config
        server = (config.resolver.host, config.resolver.port) if config.resolver else None
        self._way = Way(server, config.http.validation_port)

    def publish(self, token: str, key_authorization: str) -> None:
        self._publisher.publish(token, key_authorization)

    def withdraw(self, token: str) -> None:
        self._publisher.withdraw(token)

    def check(
        self, name: str, ca: str, host: str, token: str, key_authorization: str
    ) -> Future[None] | None:
        if not self._config.looks_first(name, ca):
            return None
        return self._self_check.begin(self._way, name, host, token, key_authorization)


class _OnDemand:
    """The responder, made sure to be listening whenever a token is published.

    ``certd renew`` may find out only on the way that there is something to issue, and the
    certd that had the port may have ended since.
    """

    def __init__(self, responder: Responder, listen: Callable[[], None]) -> None:
        self._responder = responder
        self._listen = listen

    def publish(self, token: str, key_authorization: str) -> None:
        self._listen()
        self._responder.publish(token, key_authorization)

    def withdraw(self, token: str) -> None:
        self._responder.withdraw(token)


def _warn(config: Config) -> None:
    for lack in config.lacking:
        log.warning("%s", lack)
