"""How challenges are shown to CAs by this process: the responders, and our own looks first."""

from __future__ import annotations

import http.client
import logging
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from datetime import UTC, datetime

from certd.authorize import TLS_ALPN
from certd.ca.resources import CAChallenge
from certd.challenges.dns01 import PERSIST
from certd.challenges.http01 import (
    PortTaken,
    Responder,
    Webroot,
    nothing_else,
    open_sockets,
    to_https,
)
from certd.challenges.reaching import Way
from certd.challenges.selfcheck import SelfCheck
from certd.challenges.tlsalpn import TLSResponder
from certd.config import Config
from certd.engine.zones import Zones
from certd.errors import ChallengeError
from certd.model import BY_DNS, WRITTEN, Identifier
from certd.secrets import Secret
from certd.store import Store

log = logging.getLogger(__name__)

PROBE_SECONDS = 3.0  # for an answer from the certd that has the port
PROBED = "certd-probe.invalid"  # a name that no CA asks for

Address = tuple[str, int]


class Showing:
    """The running parts. ``publisher`` is what an order publishes with."""

    def __init__(
        self, config: Config, store: Store, served: Callable[[str], None], zones: Zones
    ) -> None:
        """``served`` is told of each token that a CA has fetched."""
        self.zones = zones
        self._store = store
        self._lock = threading.Lock()
        self._listening = False
        otherwise = to_https if config.http.redirect else nothing_else
        tokens = store.tokens
        self._http = Responder(tokens.answer, served, otherwise=otherwise)
        self._tls = TLSResponder(tokens.answer_for, tokens.by_host, served)
        self._self_check = SelfCheck()

    def publisher(self, config: Config) -> Shown:
        """As this configuration wants them shown."""
        return Shown(self, config)

    def listen(self, config: Config, passed: Sequence[socket.socket] = ()) -> None:
        """Start the HTTP-01 responder: on sockets from systemd, or as configured.

        Where the port is taken by another certd with the same store (the daemon, when
        this is ``certd renew``), that one answers for us, for as long as it is there.

        Raises:
            ChallengeError: nobody here can answer the CA.
        """
        if config.http.webroot is None:
            with self._lock:
                if not self._listening:
                    self._listen(config, passed)

    def listen_by_tls(self, passed: Sequence[socket.socket]) -> None:
        """Start the TLS-ALPN-01 responder on sockets from systemd; without, it waits for work."""
        if passed:
            self._tls.start(passed)

    def stop(self) -> None:
        self._http.stop()
        self._tls.stop()
        self._self_check.stop()
        self.zones.stop()

    def _listen(self, config: Config, passed: Sequence[socket.socket]) -> None:
        addresses = [(address.host, address.port) for address in config.http.listen]
        try:
            sockets = list(passed) or open_sockets(addresses)
        except PortTaken:
            if not all(self._answered_elsewhere(address) for address in addresses):
                raise
            log.info("the running certd answers the CA's questions")
            return
        self._http.start(sockets)
        self._listening = True

    def show(self, host: Identifier, challenge: CAChallenge, config: Config) -> None:
        token, key_authorization = challenge.token, challenge.key_authorization.reveal()
        if challenge.type == TLS_ALPN:
            addresses = [(address.host, address.port) for address in config.tls_alpn.listen]
            self._tls.publish(
                host,
                token,
                key_authorization,
                addresses,
                lambda: all(self._answered_by_tls(address) for address in addresses),
            )
        elif config.http.webroot is not None:
            Webroot(config.http.webroot).publish(token, key_authorization)
        else:
            # `certd renew` may find out only on the way that there is something to issue, and
            # the certd that had the port may have ended since.
            self.listen(config)
            self._http.publish(token, key_authorization)

    def hide(self, token: str, config: Config) -> None:
        """Whatever it was published by."""
        self._tls.withdraw(token)
        self._http.withdraw(token)
        if config.http.webroot is not None:
            Webroot(config.http.webroot).withdraw(token)

    def look(
        self, name: str, host: Identifier, challenge: CAChallenge, config: Config
    ) -> Future[None]:
        server = config.name_server
        if challenge.type == TLS_ALPN:
            way = Way(server, tls_port=config.tls_alpn.validation_port)
            return self._self_check.begin_tls(way, name, host, challenge.key_authorization)
        way = Way(server, config.http.validation_port)
        key_authorization = challenge.key_authorization.reveal()
        return self._self_check.begin(way, name, host.value, challenge.token, key_authorization)

    # -- whether whoever has the port answers from our store: asked with a token of ours -------

    def _answered_elsewhere(self, address: Address) -> bool:
        token, answer = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        probe = self._store.tokens.apart("probe ")
        name = secrets.token_hex(8)
        probe.publish(name, {token: Secret(answer)}, datetime.now(UTC))
        host, port = _local(address)
        connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
        try:
            connection.request("GET", f"/.well-known/acme-challenge/{token}")
            return connection.getresponse().read(len(answer) + 1) == answer.encode()
        except (OSError, http.client.HTTPException):
            # A family that this machine lacks is nobody's, and so no obstacle.
            return address[0] == "::"
        finally:
            connection.close()
            probe.withdraw(name)

    def _answered_by_tls(self, address: Address) -> bool:
        token = secrets.token_urlsafe(24)
        host = Identifier("dns", f"{secrets.token_hex(8)}.{PROBED}")
        secret = Secret(f"{token}.{secrets.token_urlsafe(24)}")
        probe = self._store.tokens.apart("probe ")
        name = secrets.token_hex(8)
        probe.publish(name, {token: secret}, datetime.now(UTC), {token: host})
        try:
            at, port = _local(address)
            self._self_check.begin_tls(
                Way(tls_port=port, seconds=PROBE_SECONDS), name, host, secret, at
            ).result()
            return True
        except (ChallengeError, CancelledError):
            return address[0] == "::"
        finally:
            probe.withdraw(name)


def _local(address: Address) -> Address:
    host, port = address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - compared only


class Shown:
    """A ``certd.authorize.Publisher``, as one configuration wants it."""

    def __init__(self, showing: Showing, config: Config) -> None:
        self._showing = showing
        self._config = config

    def publish(self, host: Identifier, challenge: CAChallenge) -> None:
        if challenge.type not in BY_DNS:
            self._showing.show(host, challenge, self._config)

    def withdraw(self, token: str) -> None:
        self._showing.hide(token, self._config)

    def check(
        self, name: str, ca: str, host: Identifier, challenge: CAChallenge
    ) -> Future[None] | None:
        if challenge.type in WRITTEN:
            return self._showing.zones.publish(name, host, challenge, self._config)
        if challenge.type == PERSIST:
            names = self._config.certificates[name].identifiers
            wildcard = Identifier("dns", f"*.{host}") in names
            return self._showing.zones.lasting(
                name,
                host.value,
                challenge.account,
                challenge.issuers,
                wildcard=wildcard,
                config=self._config,
            )
        if not self._config.looks_first(name, ca):
            return None
        return self._showing.look(name, host, challenge, self._config)

    def give_up(self, name: str) -> None:
        self._showing.zones.give_up(name)

    def patience(self, name: str) -> float:
        spec = self._config.certificates.get(name)
        accounts = Counter(spec.dns_for(one.value) for one in spec.identifiers) if spec else {}
        # Given back earlier, the order would begin with its first record again.
        return max(
            (
                one.timeout + one.settle + records * one.pace
                for table, records in accounts.items()
                if (one := self._config.dns.get(table or ""))
            ),
            default=0.0,
        )
