"""A CA, as the configuration says: where it is, how it is reached, whose customer one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from certd.budget import NO_LIMITS, Limits
from certd.config.policy import NamePolicy
from certd.config.wellknown import WELL_KNOWN
from certd.references import SecretReference
from certd.secrets import Secret

_CUSTOMERS_ONLY = {ca.directory for ca in WELL_KNOWN.values() if ca.customers_only}
_OTHER_CUSTOMERS = {ca.staging for ca in WELL_KNOWN.values() if ca.customers_only and ca.staging}
_PUBLIC = {url: ca for ca in WELL_KNOWN.values() for url in (ca.directory, ca.staging) if url}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that knows CONNECT. ``host`` is without brackets."""

    host: str
    port: int
    user: str | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"http://{user}{joined(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class EABSettings:
    """External account binding (RFC 8555 section 7.3.4): which customer an account is to be of."""

    kid: str  # the CA's name for the key
    hmac: SecretReference  # base64url; fetched when an account is registered


@dataclass(frozen=True, slots=True)
class HubSettings:
    """What this machine shows to another certd, to get certificates from it."""

    certificate: Path  # PEM, with its chain
    key: Path


@dataclass(frozen=True, slots=True)
class CASettings:
    """One ``[ca.NAME]`` table, with what is well known of that name filled in."""

    name: str
    directory: str
    ca_bundle: Path | None = None  # trust these roots, and no others, for the CA's own HTTPS
    agree_tos: bool = False
    staging: str | None = None  # the directory of the CA's staging service, if it has one
    limits: Limits = NO_LIMITS
    # None of these is in the repr: what a table was before there were these is still the same.
    # Of the leaves of a CA of our own; None: it is an ACME server.
    lifetime: timedelta | None = field(default=None, repr=False)
    # No order fails or succeeds by these.
    preferred_chain: str | None = field(default=None, repr=False)
    roots: Path | None = field(default=None, repr=False)  # what its certificates lead to
    crl: bool = field(default=True, repr=False)  # look at its lists of what it has revoked
    # How it is reached; see ``way``.
    proxy: Proxy | None = field(default=None, repr=False)
    proxy_password: SecretReference | None = field(default=None, repr=False)
    source_address: str | None = field(default=None, repr=False)
    min_tls: Literal["1.2", "1.3"] = field(default="1.2", repr=False)

    @property
    def local(self) -> bool:
        """Whether it is one of our own, which asks nobody for anything."""
        return self.lifetime is not None

    @property
    def acme(self) -> bool:
        """Whether it is an ACME server: no CA of our own, and no other certd."""
        return not self.local and self.hub is None

    @property
    def way(self) -> tuple[object, ...]:
        """How it is reached, where anything is said of that."""
        way = (self.proxy, self.proxy_password, self.source_address, self.min_tls)
        return () if way == (None, None, None, "1.2") else way

    eab: EABSettings | None = field(default=None, repr=False)  # see Config.table_digests
    # Another certd, at ``directory``: it issues nothing, but has what it has ordered itself.
    hub: HubSettings | None = field(default=None, repr=False)

    @property
    def unbound(self) -> bool:
        """Whether it is known to make no account without the ``eab`` that is not there."""
        return self.eab is None and self.directory in _CUSTOMERS_ONLY

    @property
    def unrehearsed(self) -> bool:
        """Whether its staging service is known to bind accounts by other keys than this ``eab``."""
        return self.eab is not None and self.staging in _OTHER_CUSTOMERS

    @property
    def public(self) -> bool:
        """Whether it asks by the public DNS, and at the ports of RFC 8555 section 8.3."""
        return self.directory in _PUBLIC

    @property
    def names(self) -> NamePolicy | None:
        """Which names it refuses; None: whatever a private CA likes."""
        known = _PUBLIC.get(self.directory)
        return known.names if known else None


def digested(eab: EABSettings | None) -> tuple[object, ...]:
    """Nothing where there is none, so that tables of before have the digests of before."""
    if eab is None:
        return ()
    # A plain secret shows itself as asterisks, and another one is another.
    secret = eab.hmac.place
    return eab, secret.reveal() if isinstance(secret, Secret) else ""


def joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
