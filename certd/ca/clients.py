"""The CAs that the configuration names, each met when it is first needed."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from certd.ca.account import AccountBook
from certd.ca.client import Client
from certd.ca.issuer import Issuer
from certd.ca.net import Network
from certd.ca.route import Route
from certd.ca.wire import SILENCE
from certd.config import CASettings
from certd.errors import ConfigError


class Clients:
    """``clients(name)`` is the one Issuer of that name, shared by all threads."""

    def __init__(
        self,
        cas: Mapping[str, CASettings],
        accounts: AccountBook,
        contact: tuple[str, ...],
        silence: float = SILENCE,
        local: Callable[[str, timedelta], Issuer] | None = None,
    ) -> None:
        """``silence`` is in seconds: how long a CA's answer is waited for.

        ``local`` makes the one of our own of that name, whose leaves live so long.
        """
        self._cas = cas
        self._accounts = accounts
        self._contact = contact
        self._silence = silence
        self._local = local
        self._clients: dict[str, Issuer] = {}
        self._networks: list[Network] = []
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Issuer:
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
                client = self._clients[name] = self._client(name, settings)
            return client

    def _client(self, name: str, settings: CASettings) -> Issuer:
        if settings.hub is not None:
            raise ConfigError(
                f"{name} is no CA",
                "it is another certd, which has what it has ordered itself",
                "whatever is asked of a CA, an account or a revocation, is asked for there",
            )
        if settings.lifetime is not None and self._local is not None:
            return self._local(name, settings.lifetime)
        network = _network(settings, self._silence)
        self._networks.append(network)
        return Client(
            name,
            settings.directory,
            network,
            self._accounts,
            self._contact,
            agreed=settings.agree_tos,
            preferred_chain=settings.preferred_chain,
            roots=settings.roots,
            eab=settings.eab,
        )

    def close(self) -> None:
        """Hang up on all of them."""
        with self._lock:
            for network in self._networks:
                network.close()


def route_to(settings: CASettings) -> Route:
    """The way on which whatever is asked of this CA goes."""
    proxy = settings.proxy
    return Route(
        settings.source_address,
        (proxy.host, proxy.port) if proxy else None,
        proxy.user if proxy else None,
        settings.proxy_password,
        f"[ca.{settings.name}]",
    )


def _network(settings: CASettings, silence: float) -> Network:
    minimum = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[settings.min_tls]
    return Network(settings.ca_bundle, settings.name, silence, route_to(settings), minimum)
