"""What certd knows of its certificates: versions, orders, targets, and what went wrong.

Frozen values, as the store keeps them. Instants are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from certd.model import Certificate, CertificateSpec, Identifier, KeyType, Usage
from certd.secrets import Secret

Signer = Literal["account", "key", "ca"]  # of a revocation

KEY_COMPROMISE = "keyCompromise"


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
    retry_at: datetime | None = None  # of what is verified: the next look at it
    failure: Failure | None = None
    until: datetime | None = None  # the end of what ``serving`` is


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
    # By the CA's name; a DNS provider's by that of its table: "dns main", or, of one of its zones
    # only, "dns main example.com".
    parks: Mapping[str, Park] = field(default_factory=dict)
    held_until: datetime | None = None  # a CA's limit: no order before
    held_for: str = ""  # which one, for people
    new_key: bool = False  # the operator asked for another key, whatever is configured
    next_key: NextKey | None = None
    revocations: tuple[Revocation, ...] = ()  # of all its versions
    challenge: str | None = None  # the next order's; None: the first that is wanted
    issuing: bool = False  # of the order under way the CA has all: it may have issued by now

    @property
    def revocation(self) -> Revocation | None:
        """That of the current version."""
        have = self.current.certificate.fingerprint if self.current else None
        return next((one for one in self.revocations if one.fingerprint == have), None)
