"""This certd as a hub: what its store and its configuration say to other machines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from certd.challenges.listening import open_sockets
from certd.config import Config, DistributionSettings
from certd.distribution.server import Server
from certd.distribution.session import Refused
from certd.errors import ConfigError, plain
from certd.model import Bundle, Certificate
from certd.store import Store

log = logging.getLogger(__name__)

_WHO = "the distribution of certificates", "distribution"


class Distribution:
    """``start`` and ``stop`` are for once each. A ``Stock`` for its server."""

    def __init__(self, config: Config, settings: DistributionSettings, store: Store) -> None:
        self._store = store
        self._listen = settings.listen
        self._server = Server(self)
        self._adopt(config, settings)

    def start(self) -> None:
        """
        Raises:
            ChallengeError: an address cannot be had.
        """
        self._server.start(open_sockets(((one.host, one.port) for one in self._listen), *_WHO))
        log.info("distribution: listening on %s", ", ".join(map(str, self._listen)))

    def follow(self, config: Config) -> None:
        """From now on, who gets what is as this configuration says."""
        settings = config.distribution
        if settings is None or settings.listen != self._listen:
            log.warning("[distribution] listen has changed: restart certd to listen so")
        self._adopt(config, settings or self._settings)
        self._server.look_again()

    def stop(self) -> None:
        self._server.stop()

    def _adopt(self, config: Config, settings: DistributionSettings) -> None:
        names: dict[str, tuple[str, frozenset[str]]] = {}
        if config.distribution is not None:  # without the table nobody gets anything
            for client in config.clients.values():
                names[client.host] = (client.name, frozenset(client.certificates))
        self._settings, self._clients = settings, names

    # -- for the server ------------------------------------------------------------------------

    def fingerprints(self) -> Mapping[str, str]:
        return self._store.versions.fingerprints()

    def certificates_of(self, client: Certificate) -> tuple[str, frozenset[str]]:
        """By each of its names that has a table."""
        hosts = [one.value for one in client.identifiers if one.type == "dns"]
        found = [self._clients[host] for host in hosts if host in self._clients]
        who = plain(", ".join(hosts)) or "a client without a DNS name"
        if not found:
            raise Refused(f"{who} gets nothing: there is no table [client.NAME] for it")
        if why := self._store.revocations.forbids(client):
            raise Refused(f"the client certificate of {who} is not taken: {why}")
        allowed = frozenset[str]().union(*(names for _, names in found))
        return ", ".join(name for name, _ in found), allowed

    def bundle(self, name: str) -> Bundle | None:
        current = self._store.lineages.get(name).current
        return self._store.lineages.bundle(name, current.number) if current else None

    def shown(self) -> str:
        return self._settings.certificate

    def roots(self) -> str:
        """Those of a CA of ours that was given another root too, as long as they are valid: what
        they have signed is.
        """
        settings = self._settings
        if settings.clients is None:
            return _read(settings.roots) if settings.roots else ""
        now = datetime.now(UTC)
        found = self._store.authorities.roots(settings.clients)
        return "".join(pem for pem, ends in found if ends > now)


def _read(roots: Path) -> str:
    try:
        return roots.read_text("ascii", "ignore")
    except OSError as error:
        what = f"cannot read {roots}"
        todo = "roots in [distribution] must name a PEM file with the roots of the clients' CA"
        raise ConfigError(what, error.strerror or "", todo) from error
