"""The frozen values that the rooms hand to each other. No behaviour beyond what the values say.

Instants are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
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
Signer = Literal["account", "key", "ca"]  # of a revocation
KEY_COMPROMISE = "keyCompromise"
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
    # The other of a pair from one table; the store need not know.
    sibling: str | None = field(default=None, compare=False)

    @property
    def accounts(self) -> list[str]:
        """Its [dns] tables, as they are named among ``Lineage.parks``."""
        return [f"dns {table}" for _, table in self.dns]

    @property
    def asks(self) -> tuple[str, ...]:
        """Whom ``Lineage.parks`` may keep from being asked for it."""
        return (*self.cas, *self.accounts)

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


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as a target holds them: not checked, and perhaps no pair."""

    fullchain_pem: str
    key_pem: Secret


@dataclass(frozen=True, slots=True)
class Version:
    """One issuance of a lineage, without its key."""

    number: int
    ca: str
    certificate: Certificate
    key_type: str
    directory: str | None = None  # of the CA that issued it; None: not known
    profile: str | None = None  # that its order asked for
    wishes: str = ""  # of the ``CertificateSpec`` that it was made to

    def issued_at(self, ca: str, directory: str) -> bool:
        """Whether that CA issued it. A name that has moved to another directory is another CA."""
        return self.ca == ca if self.directory is None else self.directory == directory


@dataclass(frozen=True, slots=True)
class NextKey:
    """The key that the next issuance will use, as far as it may be seen."""

    key_type: str
    spki_sha256: str  # its pin, to be published before it is used


@dataclass(frozen=True, slots=True)
class Revocation:
    """A version that is revoked, or is to be: ``revoked_at`` is None until the CA has done it.

    ``signer`` signs the request: our account, or the certificate's own key (RFC 8555
    section 7.6); ``ca`` where the CA has revoked by itself. What failed is tried again at
    ``retry_at``, and not any more when the version has ended.
    """

    fingerprint: str
    name: str
    number: int
    reason: str  # RFC 5280 section 5.3.1
    signer: Signer
    asked_at: datetime
    revoked_at: datetime | None = None
    failures: int = 0
    retry_at: datetime | None = None
    failure: Failure | None = None
    ends: datetime | None = field(default=None, compare=False)  # the version, where it is known

    def pending(self, now: datetime) -> bool:
        """Whether it is still to be done: what has expired is trusted by nobody."""
        return self.revoked_at is None and (self.ends is None or self.ends > now)

    @property
    def final(self) -> bool:
        """Whether the certificate must be replaced, whatever the CA will answer."""
        return self.revoked_at is not None or self.reason == KEY_COMPROMISE

    def __str__(self) -> str:
        if self.revoked_at is None:
            return f"is being revoked ({self.reason})"
        by = "by its CA" if self.signer == "ca" else "on your word"
        return f"was revoked {by} ({self.reason})"


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """What a CA suggested for one certificate (RFC 9773 section 4.2)."""

    start: datetime
    end: datetime
    selected: datetime  # drawn once, uniform in [start, end), and kept
    explanation_url: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """When something is to be done, and why then."""

    at: datetime
    reason: str

    def due(self, now: datetime) -> bool:
        return self.at <= now


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong last: shown to the operator, never a secret in it."""

    what: str
    why: str
    next: str
    at: datetime

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}; {self.next}" if self.next else text


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a CA, known by the CA's directory URL; ``uri`` is None until registered.

    ``next_key_pem`` is there while its key is rolled over: which of the two the CA takes is
    not known before it was asked. ``deactivated``: by the operator, and for good.
    """

    directory: str
    key_pem: Secret
    uri: str | None = None
    next_key_pem: Secret | None = None
    deactivated: bool = False
    terms: str | None = None  # URL of the terms of service that were accepted


@dataclass(frozen=True, slots=True)
class Authority:
    """A root or an intermediate of our own, with its key. ``id`` is 0 until it is kept."""

    ca: str  # the name of the CA that it belongs to
    role: Literal["root", "intermediate"]
    key_pem: Secret
    certificate_pem: str
    not_before: datetime
    not_after: datetime
    id: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """An ACME order of ours, as the store keeps it.

    ``url`` is None until the CA's answer to newOrder is in the store. Key and CSR are
    there from the start, so that nothing which the CA issues can lack its key.
    """

    id: int
    name: str
    ca: str
    identifiers: tuple[Identifier, ...]
    key_type: KeyType
    key_pem: Secret
    csr_pem: str
    replaces: str | None  # ari_id of the certificate that this order replaces
    url: str | None
    created_at: datetime
    directory: str | None = None  # of the CA that it is made at; None: not known
    # Attempts that failed since finalize was asked for; None: it was not.
    finalizing: int | None = None
    profile: str | None = None
    lifetime: timedelta | None = None
    wishes: str = ""  # of the ``CertificateSpec`` that it was begun for

    def serves(
        self, spec: CertificateSpec, ca: str, directory: str, usages: tuple[Usage, ...]
    ) -> bool:
        """Whether it is what would be ordered for this at that CA; ``usages`` are its CSR's."""
        return (
            self.ca == ca
            and self.directory in (None, directory)
            and self.key_type == spec.key_type
            and self.wishes == spec.wishes
            and set(self.identifiers) == set(spec.identifiers)
            and usages == spec.usages
        )


def keyless(wishes: str | None) -> bool:
    """Whether what was made to these wishes has a key that certd never sees."""
    return any(word.startswith(_CSR) for word in (wishes or "").split())


@dataclass(frozen=True, slots=True)
class Park:
    """A CA, or a DNS provider, that is not asked, and why.

    ``until`` is None until the operator acts.
    """

    until: datetime | None
    failure: Failure
    everyone: bool = False  # by no certificate, for it is about our account there

    def holds(self, now: datetime) -> bool:
        return self.until is None or self.until > now


TargetPhase = Literal["pending", "applied", "verified", "failed", "rolled-back"]


@dataclass(frozen=True, slots=True)
class TargetState:
    """Where one target stands with one lineage.

    pending -> applied -> verified, or failed / rolled-back, each with reason and next
    attempt. ``version`` is the version that the phase speaks of; ``serving`` the newest
    version that was ever verified there: what a roll-back goes back to.
    """

    target: str
    phase: TargetPhase = "pending"
    version: int | None = None
    serving: int | None = None
    failures: int = 0
    since: datetime | None = None
    retry_at: datetime | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """All that the store knows of one configured certificate, without any key."""

    name: str
    current: Version | None = None
    renewal: RenewalInfo | None = None
    ask_again: datetime | None = None  # when to ask the CA for renewal information
    ask_failures: int = 0  # unanswered questions in a row
    forced: bool = False  # the operator asked for a renewal now
    failures: int = 0  # issuances that failed since the last one that did not
    retry_at: datetime | None = None
    failure: Failure | None = None
    ordering: bool = False  # an order is under way: key and CSR are written down
    placed: bool = False  # and the CA has it: its URL is known
    targets: Mapping[str, TargetState] = field(default_factory=dict)
    # By the CA's name; a DNS provider's by that of its table: "dns main".
    parks: Mapping[str, Park] = field(default_factory=dict)
    held_until: datetime | None = None  # a CA's limit: no order before
    held_for: str = ""  # which one, for people
    new_key: bool = False  # the operator asked for another key, whatever is configured
    next_key: NextKey | None = None
    revocations: tuple[Revocation, ...] = ()  # of all its versions
    challenge: str | None = None  # the next order's; None: the first that is wanted

    @property
    def revocation(self) -> Revocation | None:
        """That of the current version."""
        have = self.current.certificate.fingerprint if self.current else None
        return next((one for one in self.revocations if one.fingerprint == have), None)


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

    @property
    def label(self) -> str:
        """The name within its zone; "" for the zone's own."""
        return self.name[: -len(self.zone)].rstrip(".") if self.name != self.zone else ""
