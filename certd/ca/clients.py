"""The CAs that the configuration names, each met when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from certd.ca.account import AccountBook
from certd.ca.client import Client
from certd.ca.net import Network
from certd.ca.wire import SILENCE
from certd.config import CASettings
from certd.errors import ConfigError


class Clients:
    """``clients(name)`` is the one Client of that CA, shared by all threads."""

    def __init__(
        self,
        cas: Mapping[str, CASettings],
        accounts: AccountBook,
        contact: tuple[str, ...],
        silence: float = SILENCE,
    ) -> None:
        """``silence`` is in seconds: how long a CA's answer is waited for."""
        self._cas = cas
        self._accounts = accounts
        self._contact = contact
        self._silence = silence
        self._clients: dict[str, Client] = {}
        self._networks: list[Network] = []
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Client:
        """
        Raises:
            ConfigError: it is not configured, or not any more; or its ca_bundle is no PEM file.
        """
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                settings = self._cas.get(name)
                if settings is None:
                    raise ConfigError(
                        f"cannot ask the CA {name}",
                        "it is not in the configuration",
                        f"add [ca.{name}] again if it is to be asked",
                    )
                network = Network(settings.ca_bundle, name, self._silence)
                self._networks.append(network)
                client = Client(
                    name,
                    settings.directory,
                    network,
                    self._accounts,
                    self._contact,
                    agreed=settings.agree_tos,
                    eab=settings.eab,
                )
                self._clients[name] = client
            return client

    def close(self) -> None:
        """Hang up on all of them."""
        with self._lock:
            for network in self._networks:
                network.close()
