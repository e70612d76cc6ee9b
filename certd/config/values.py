"""What a configuration says, once it has been read and found right: frozen values.

Nothing here may import pydantic: every command imports this module, few of them parse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from certd.api import DeployTarget
from certd.budget import LETS_ENCRYPT, NO_LIMITS, Limits
from certd.config.findings import Finding
from certd.model import CertificateSpec
from certd.references import SecretReference

DEFAULT_STATE = "/var/lib/certd"
DEFAULT_CA = "letsencrypt"


@dataclass(frozen=True, slots=True)
class WellKnownCA:
    """A public CA that needs no ``directory`` of the operator's."""

    directory: str
    staging: str | None = None
    mailto_only: bool = False  # it refuses an account with another kind of contact
    limits: Limits = NO_LIMITS


# From each CA's own documentation of its ACME service. SSL.com signs ECDSA and RSA keys at
# two directories; ours is the one for ECDSA because that is certd's default key.
WELL_KNOWN: Mapping[str, WellKnownCA] = {
    "letsencrypt": WellKnownCA(
        "https://acme-v02.api.letsencrypt.org/directory",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
        mailto_only=True,
        limits=LETS_ENCRYPT,
    ),
    "letsencrypt-staging": WellKnownCA(
        "https://acme-staging-v02.api.letsencrypt.org/directory", mailto_only=True
    ),
    "google": WellKnownCA(
        "https://dv.acme-v02.api.pki.goog/directory",
        "https://dv.acme-v02.test-api.pki.goog/directory",
    ),
    "zerossl": WellKnownCA("https://acme.zerossl.com/v2/DV90"),
    "sslcom": WellKnownCA("https://acme.ssl.com/sslcom-dv-ecc"),
    "actalis": WellKnownCA("https://acme-api.actalis.com/acme/directory"),
}
_PUBLIC = {url for ca in WELL_KNOWN.values() for url in (ca.directory, ca.staging) if url}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where the HTTP-01 responder listens. ``host`` is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return _joined(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TLS server that must present the new certificate. ``host`` is without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return _joined(self.host, self.port)


@dataclass(frozen=True, slots=True)
class CASettings:
    """One ``[ca.NAME]`` table, with what is well known of that name filled in."""

    name: str
    directory: str
    ca_bundle: Path | None = None  # trust these roots, and no others, for the CA's own HTTPS
    agree_tos: bool = False
    staging: str | None = None  # the directory of the CA's staging service, if it has one
    limits: Limits = NO_LIMITS

    @property
    def public(self) -> bool:
        """Whether it asks by the public DNS, and at the ports of RFC 8555 section 8.3."""
        return self.directory in _PUBLIC


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
class TargetSettings:
    """One ``[target.NAME]`` table; ``plugin`` is built and ready to deploy."""

    name: str
    type: str
    plugin: DeployTarget
    verify: tuple[Endpoint, ...] = ()
    verify_timeout: float = 30.0  # seconds
    digest: str = ""  # SHA-256 of the table: another one is another target


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
    digest: str  # SHA-256 of the file's bytes, lower-case hexadecimal
    seal: SecretReference | None = None  # where the key is that seals the database's secrets
    resolver: ListenAddress | None = None  # the DNS server for looks of our own; None: the system
    lacking: tuple[Finding, ...] = ()  # what this machine lacks of it; see certd.errors.NotHere
    warnings: tuple[Finding, ...] = ()  # what is right, but better done otherwise

    def looks_first(self, name: str, ca: str) -> bool:
        """Whether this certificate's challenges are looked at before this CA is told to."""
        spec, settings = self.certificates.get(name), self.cas.get(ca)
        if spec is None or settings is None:
            return False
        return settings.public if spec.self_check is None else spec.self_check

    @property
    def table_digests(self) -> dict[str, str]:
        """Of everything that certificates refer to, by table: another one is worth another try."""
        tables: dict[str, object] = {"http": (self.http, self.resolver)}
        tables |= {f"ca {name}": (settings, self.contact) for name, settings in self.cas.items()}
        digests = {
            table: hashlib.sha256(repr(settings).encode()).hexdigest()
            for table, settings in tables.items()
        }
        return digests | {f"target {name}": target.digest for name, target in self.targets.items()}

    def lacking_for(self, names: Collection[str]) -> list[Finding]:
        """What this machine lacks of what these certificates need."""
        used = {f"target.{target}" for name in names for target in self.certificates[name].targets}
        return [lack for lack in self.lacking if lack.table in (*used, "http")]

    @property
    def unaccepted(self) -> list[str]:
        """The CAs that certificates use though their terms of service are not accepted."""
        used = {ca for spec in self.certificates.values() for ca in spec.cas}
        return [ca for ca in self.cas if ca in used and not self.cas[ca].agree_tos]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
