"""This certd as a hub: what its store and its configuration say to other machines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from certd.challenges.listening import open_sockets
from certd.config import Config, DistributionSettings
from certd.distribution.server import Server
from certd.model import Bundle, Certificate
from certd.store import Store

log = logging.getLogger(__name__)

_WHO = "the distribution of certificates", "distribution"


class Distribution:
    """``start`` and ``stop`` are for once each. A ``Stock`` for its server."""

    def __init__(self, config: Config, settings: DistributionSettings, store: Store) -> None:
        self._store = store
        self._server = Server(self)
        self._adopt(config, settings)

    def start(self) -> None:
        """
        Raises:
            ChallengeError: an address cannot be had.
        """
        listen = self._settings.listen
        self._server.start(open_sockets(((one.host, one.port) for one in listen), *_WHO))
        log.info("distribution: listening on %s", ", ".join(map(str, listen)))

    def follow(self, config: Config) -> None:
        """From now on, who gets what is as this configuration says."""
        settings = config.distribution
        if settings is None or settings.listen != self._settings.listen:
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

    def certificates_of(self, client: Certificate) -> tuple[str, frozenset[str]] | None:
        """By each of its names that has a table."""
        hosts = [one.value for one in client.identifiers if one.type == "dns"]
        found = [self._clients[host] for host in hosts if host in self._clients]
        if not found or self._store.revocations.forbids(client):
            return None
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
            return settings.roots.read_text("ascii", "ignore") if settings.roots else ""
        now = datetime.now(UTC)
        found = self._store.authorities.roots(settings.clients)
        return "".join(pem for pem, ends in found if ends > now)
