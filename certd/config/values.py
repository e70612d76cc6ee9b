"""What a configuration says, once it has been read and found right: frozen values.

Nothing here may import pydantic: every command imports this module, few of them parse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from certd.api import DeployTarget, DNSProvider
from certd.budget import NO_LIMITS, Limit, Limits
from certd.config.authorities import CASettings, digested, joined
from certd.config.findings import Finding, dotted
from certd.config.hsts import HSTS
from certd.errors import ConfigError
from certd.model import BY_DNS, CertificateSpec
from certd.references import SecretReference

DEFAULT_STATE = "/var/lib/certd"
DEFAULT_CA = "letsencrypt"
LOCAL = "local"  # the CA of our own that needs no table


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a responder listens. ``host`` is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return joined(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TLS server that must present the new certificate. ``host`` is without brackets."""

    host: str
    port: int
    sni: str | None = None  # None: a name of the certificate
    starttls: str | None = None
    addresses: tuple[str, ...] = ()  # empty: all that the host's name resolves to
    roots: Path | None = None  # PEM: what the served chain must lead to
    pins: tuple[str, ...] = ()  # base64 of SHA-256: one of the presented keys must be it
    tls: str | None = None  # which of Mozilla's guidelines it must follow
    hsts: HSTS | None = None

    def __str__(self) -> str:
        return joined(self.host, self.port)


@dataclass(frozen=True, slots=True)
class HTTPSettings:
    """How HTTP-01 challenges are answered: by listening, or by files in ``webroot``.

    ``listen`` is empty when there is a webroot. ``redirect``: whoever asks certd's responder
    for anything but a challenge is sent to the same place there.
    """

    listen: tuple[ListenAddress, ...] = (ListenAddress("0.0.0.0", 80), ListenAddress("::", 80))  # noqa: S104 - a CA asks from anywhere
    webroot: Path | None = None
    redirect: Literal["https"] | None = None
    validation_port: int = 80  # where the CA asks

    @property
    def listening(self) -> tuple[object, ...]:
        """What cannot change while it listens."""
        return self.listen, self.redirect


@dataclass(frozen=True, slots=True)
class TLSALPNSettings:
    """Where TLS-ALPN-01 challenges are answered, while there are any."""

    listen: tuple[ListenAddress, ...] = (ListenAddress("0.0.0.0", 443), ListenAddress("::", 443))  # noqa: S104 - a CA asks from anywhere
    validation_port: int = 443  # where the CA asks


@dataclass(frozen=True, slots=True)
class Hooks:
    """Programs run before and after each deployment to a target; empty for none."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout: float = 60.0  # seconds, each


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """One ``[target.NAME]`` table; ``plugin`` is built and ready to deploy."""

    name: str
    type: str
    plugin: DeployTarget
    verify: tuple[Endpoint, ...] = ()
    verify_timeout: float = 30.0  # seconds
    look_every: timedelta | None = timedelta(hours=6)
    after: tuple[str, ...] = ()
    window: tuple[str, ...] = ()
    hooks: Hooks = Hooks()
    digest: str = ""  # SHA-256 of the table: another one is another target


@dataclass(frozen=True, slots=True)
class DNSSettings:
    """One ``[dns.NAME]`` table; ``plugin`` is built and ready to write."""

    name: str
    provider: str
    plugin: DNSProvider
    zones: tuple[str, ...] = ()  # below which it may write; empty: anywhere
    ttl: int = 60  # seconds
    propagation: Literal["all", "quorum", "wait"] = "all"
    timeout: float = 600.0  # seconds
    settle: float = 2.0  # seconds
    resolvers: tuple[ListenAddress, ...] = ()
    rate: Limit | None = None
    digest: str = ""  # SHA-256 of the table: another one is another account

    @property
    def by_hand(self) -> bool:
        """Whether a person publishes its records, so that only a command can wait."""
        return bool(getattr(self.plugin, "by_hand", False))

    @property
    def pace(self) -> float:
        """Seconds from one change to the next, where many wait for the rate."""
        return self.rate.period.total_seconds() / self.rate.count if self.rate else 0.0

    def may_touch(self, name: str) -> bool:
        return not self.zones or any(
            name == zone or name.endswith(f".{zone}") for zone in self.zones
        )


@dataclass(frozen=True, slots=True)
class DistributionSettings:
    """``[distribution]``: where other machines get their certificates from this certd.

    ``clients`` is the CA of our own whose client certificates are taken; None: those that
    lead to ``roots``.
    """

    listen: tuple[ListenAddress, ...]
    certificate: str  # of this certd, which the clients are shown
    clients: str | None = None
    roots: Path | None = None


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """One ``[client.NAME]`` table: a machine, known by a DNS name in its certificate."""

    name: str
    host: str
    certificates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, valid in itself: every name it refers to exists.

    ``path`` is the file as it was named; every other path is absolute. ``cas`` holds each
    CA with a table, and each one that a certificate uses.
    """

    path: Path
    state: Path
    contact: tuple[str, ...]
    workers: int  # threads that work on orders
    cas: Mapping[str, CASettings]
    http: HTTPSettings
    targets: Mapping[str, TargetSettings]
    certificates: Mapping[str, CertificateSpec]
    digest: str  # SHA-256 of the file's bytes, and of what it names besides, lower-case hexadecimal
    tls_alpn: TLSALPNSettings = TLSALPNSettings()
    dns: Mapping[str, DNSSettings] = field(default_factory=dict)
    name_server_port: int = 53  # at which zones' own name servers are asked
    seal: SecretReference | None = None  # where the key is that seals the database's secrets
    resolver: ListenAddress | None = None  # the DNS server for looks of our own; None: the system
    distribution: DistributionSettings | None = None  # to other machines
    clients: Mapping[str, ClientSettings] = field(default_factory=dict)
    lacking: tuple[Finding, ...] = ()  # what this machine lacks of it; see certd.errors.NotHere
    warnings: tuple[Finding, ...] = ()  # what is right, but better done otherwise

    @property
    def name_server(self) -> tuple[str, int] | None:
        """``resolver`` as host and port; None: the system's."""
        return (self.resolver.host, self.resolver.port) if self.resolver else None

    def chosen(self, names: Collection[str]) -> list[str]:
        """The named certificates, or all.

        Raises:
            ConfigError: one is not configured.
        """
        unknown = [name for name in names if name not in self.certificates]
        if unknown:
            known = ", ".join(sorted(self.certificates)[:20]) or "none"
            what = f"no certificate is named {', '.join(unknown)}"
            raise ConfigError(what, f"configured: {known}")
        # Who names one of a pair means the table that it is from.
        both = [one for name in names for one in (name, self.certificates[name].sibling) if one]
        return list(dict.fromkeys(both)) or list(self.certificates)

    def looks_first(self, name: str, ca: str) -> bool:
        """Whether this certificate's challenges are looked at before this CA is told to."""
        spec, settings = self.certificates.get(name), self.cas.get(ca)
        if spec is None or settings is None:
            return False
        return settings.public if spec.self_check is None else spec.self_check

    def limits(self, ca: str) -> Limits:
        """Of a CA, which may be one that was configured once."""
        settings = self.cas.get(ca)
        return settings.limits if settings else NO_LIMITS

    def is_examined(self, name: str, ca: str, challenge: str) -> bool:
        """Whether its names' zones are looked at before this CA gets an order for them."""
        if ca in self.cas and not self.cas[ca].acme:
            return False  # it wants no proof
        return challenge in BY_DNS or self.looks_first(name, ca)

    @property
    def listens(self) -> bool:
        """Whether port 80 may be asked anything: not where all CAs are our own."""
        names = self.certificates
        return not names or bool(self.http.redirect) or any(map(self.needs_http, names))

    @property
    def table_digests(self) -> dict[str, str]:
        """Of everything that certificates refer to, by table: another one is worth another try."""
        tables: dict[str, object] = {
            "http": (self.http, self.resolver),
            "tls_alpn": (self.tls_alpn, self.resolver),
        }
        for name, settings in self.cas.items():
            more = *settings.way, *digested(settings.eab)
            more += (settings.hub,) if settings.hub else ()
            tables[f"ca {name}"] = (settings, settings.lifetime or self.contact, *more)
        digests = {
            table: hashlib.sha256(repr(settings).encode()).hexdigest()
            for table, settings in tables.items()
        }
        digests |= {f"target {name}": target.digest for name, target in self.targets.items()}
        return digests | {f"dns {name}": account.digest for name, account in self.dns.items()}

    def lacking_for(self, names: Collection[str]) -> list[Finding]:
        """What this machine lacks of what these certificates need."""
        specs = [self.certificates[name] for name in names]
        used = {dotted(("target", target)) for spec in specs for target in spec.targets}
        used |= {dotted(("ca", ca)) for spec in specs for ca in spec.cas}
        used |= {dotted(("dns", table)) for spec in specs for _, table in spec.dns}
        if any(map(self.needs_http, names)):
            used.add("http")
        return [lack for lack in self.lacking if lack.table in used]

    def is_challenged(self, name: str) -> bool:
        """Whether a CA of this certificate may want to see that its names are ours."""
        return any(self.cas[ca].acme for ca in self.certificates[name].cas)

    def needs_http(self, name: str) -> bool:
        """Whether it cannot be had without an answer at port 80."""
        only = self.certificates[name].challenges == ("http-01",)
        return only and self.is_challenged(name)

    @property
    def unaccepted(self) -> list[str]:
        """The CAs that certificates use though their terms of service are not accepted."""
        return [ca for ca in self._used_cas() if not self.cas[ca].agree_tos]

    @property
    def unbound(self) -> list[str]:
        """The CAs that certificates use though they make no account without ``eab``."""
        return [ca for ca in self._used_cas() if self.cas[ca].unbound]

    @property
    def own_cas(self) -> list[str]:
        """The CAs of certd's own that certificates use."""
        return [name for name, ca in self.cas.items() if ca.local and name in self._used()]

    def _used_cas(self) -> list[str]:
        return [name for name, ca in self.cas.items() if name in self._used() and ca.acme]

    def pulled(self, hub: str) -> list[str]:
        """The certificates that come from that other certd."""
        return [name for name, spec in self.certificates.items() if spec.pulled and hub in spec.cas]

    def _used(self) -> set[str]:
        return {ca for spec in self.certificates.values() for ca in spec.cas}
