"""The frozen values that the rooms hand to each other. No behaviour beyond what the values say.

Instants are aware UTC.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from certd.secrets import Secret

_CSR = "csr="  # among ``wishes``

KeyType = Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
Usage = Literal["server", "client"]  # of TLS
SERVER: tuple[Usage, ...] = ("server",)
IPNetwork = IPv4Network | IPv6Network
Subtree = str | IPNetwork  # a DNS name and all below it, or a network (RFC 5280 section 4.2.1.10)
WRITTEN = ("dns-01", "dns-account-01")  # challenges that a DNS provider answers
BY_DNS = (*WRITTEN, "dns-persist-01")


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """A name or IP address to certify (RFC 8555 section 9.7.7).

    ``value`` is lower-case; a DNS name is in A-label form, with ``*.`` for a wildcard.
    """

    type: Literal["dns", "ip"]
    value: str

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """One that the operator has made, with a key that certd never sees."""

    pem: str
    spki_sha256: str  # the pin of its key


@dataclass(frozen=True, slots=True)
class TargetRule:
    """When one target may be deployed to, where that is not at once."""

    target: str
    after: tuple[str, ...] = ()  # targets that must be verified before
    window: tuple[str, ...] = ()  # maintenance windows, see ``certd.maintenance``


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """A certificate as the operator wants it: one ``[certificate.NAME]`` table."""

    name: str
    identifiers: tuple[Identifier, ...]
    cas: tuple[str, ...]
    challenges: tuple[str, ...] = ("http-01",)  # each is tried where the one before failed
    targets: tuple[str, ...] = ()
    key_type: KeyType = "ec-p256"
    renew_after: float | None = None  # fraction of the lifetime, where the CA has no opinion
    self_check: bool | None = None  # look at its own challenges; None: at public CAs
    usages: tuple[Usage, ...] = SERVER
    preferred_chain: str | None = None  # name or fingerprint of a root or an intermediate
    profile: str | None = None  # of the CA's, where it has any
    fallback_profile: str | None = None
    lifetime: timedelta | None = None  # asked for; a CA that refuses is asked without
    reuse_key: bool = False  # a renewal keeps the key
    backup_key: bool = False  # the next key is made in advance
    csr: SigningRequest | None = None  # in place of keys of certd's own
    # Which [dns] tables write its records: (name, table), the longest name first, "*" last.
    dns: tuple[tuple[str, str], ...] = ()
    rules: tuple[TargetRule, ...] = ()  # of those among ``targets`` that have any
    pulled: bool = False  # from another certd, which alone orders it: see ``certd.pulling``
    # The other of a pair from one table; the store need not know.
    sibling: str | None = field(default=None, compare=False)

    def asks(self, whom: str) -> bool:
        """Whether this, of ``Lineage.parks``, is somebody who is asked for it."""
        return whom in self.cas or self.writes_by(whom)

    def writes_by(self, whom: str) -> bool:
        """The same of [dns] tables: "dns TABLE", or "dns TABLE ZONE" for what is in one zone."""
        kind, _, rest = whom.partition(" ")
        table, _, zone = rest.partition(" ")
        if kind != "dns":
            return False
        return any(table == one for _, one in self.dns) and (
            not zone
            or any(
                self.dns_for(each.value) == table and f".{each.value}".endswith(f".{zone}")
                for each in self.identifiers
            )
        )

    def dns_for(self, name: str) -> str | None:
        """The ``[dns]`` table for the challenge of this name, or of its wildcard's parent."""
        name = name.removeprefix("*.")
        for part, table in self.dns:
            if part == "*" or name == part or name.endswith(f".{part}"):
                return table
        return None

    @property
    def wishes(self) -> str:
        """What a version is made to besides names and key type: another one is a reason to renew.

        Kept with each version, for what it was made to is not all to be seen in it.
        """
        words = []
        if self.profile:
            words.append(f"profile={self.profile}")
        if self.lifetime:
            words.append(f"lifetime={self.lifetime.total_seconds():.0f}s")
        if self.csr:
            words.append(f"{_CSR}{self.csr.spki_sha256}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of a leaf."""

    identifiers: tuple[Identifier, ...]
    not_before: datetime
    not_after: datetime
    serial: str  # lower-case hexadecimal
    fingerprint: str  # SHA-256 of the DER, lower-case hexadecimal
    spki_sha256: str  # SHA-256 of the SubjectPublicKeyInfo, base64: an SPKI pin
    ari_id: str | None  # RFC 9773 section 4.1; None without an authority key identifier
    issuer: str
    usages: tuple[Usage, ...] = SERVER


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of a lineage as it is handed to a target.

    ``key_pem`` is empty where certd never had the key: the operator made the signing request.
    """

    name: str
    version: int
    leaf_pem: str
    chain_pem: str  # the intermediates only; may be empty
    key_pem: Secret
    certificate: Certificate

    @property
    def keyless(self) -> bool:
        return not self.key_pem.reveal()

    @property
    def fullchain_pem(self) -> str:
        return self.leaf_pem + self.chain_pem


def fingerprint(pem: str) -> str:
    """That of the first certificate in the text: SHA-256 of its DER, lower-case hexadecimal.

    Raises:
        ValueError: there is none.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    inside, found, _ = pem.partition(begin)[2].partition(end)
    if not found:
        raise ValueError("there is no certificate in PEM form")
    return hashlib.sha256(base64.b64decode(inside)).hexdigest()


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as a target holds them: not checked, and perhaps no pair."""

    fullchain_pem: str
    key_pem: Secret


@dataclass(frozen=True, slots=True)
class Managed:
    """A certificate at a service that the service itself renews, so that certd only shows it."""

    id: str  # the service's own: an ARN, a resource's path
    names: tuple[str, ...]
    not_after: datetime | None
    status: str  # in the service's word: "ISSUED", "PENDING_VALIDATION"


@dataclass(frozen=True, slots=True)
class Decision:
    """When something is to be done, and why then."""

    at: datetime
    reason: str

    def due(self, now: datetime) -> bool:
        return self.at <= now


def keyless(wishes: str | None) -> bool:
    """Whether what was made to these wishes has a key that certd never sees."""
    return any(word.startswith(_CSR) for word in (wishes or "").split())


@dataclass(frozen=True, slots=True)
class DNSChallenge:
    """The dns-01 challenge that a record answers (RFC 8555 section 8.4).

    ``domain`` is the identifier, without ``*.``; the record need not be below it (CNAME).
    """

    domain: str
    key_authorization: Secret

    @property
    def token(self) -> str:
        """Whatever stands before the account key's thumbprint (section 8.1)."""
        return self.key_authorization.reveal().partition(".")[0]


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """A TXT record that proves control of a name; all of it worked out by the core.

    Names are lower-case A-labels without a final dot; ``value`` is what a resolver shows, without
    quotes, and may be longer than the 255 bytes of one character-string.
    """

    zone: str
    name: str
    value: str
    ttl: int  # seconds; a provider that allows only longer ones takes the shortest that it does
    # For a provider that ``wants_challenge`` only. It is no part of what the record is.
    challenge: DNSChallenge | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """The name within its zone; "" for the zone's own."""
        return self.name[: -len(self.zone)].rstrip(".") if self.name != self.zone else ""
