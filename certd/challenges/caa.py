"""Which CAs a name's CAA records allow (RFC 8659), looked up where a CA has refused for them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certd.challenges.resolving import Silent, Unresolved
from certd.errors import plain

if TYPE_CHECKING:
    from dns.name import Name
    from dns.resolver import Resolver

SECONDS = 5.0  # for one name, its parents included
CRITICAL = 128  # RFC 8659 section 4.1: who does not know the property must not issue
KNOWN = frozenset({"issue", "issuewild", "iodef", "issuemail", "issuevmc"})
MOST_RECORDS = 10  # of one set, shown
ACCOUNT, METHODS = "accounturi", "validationmethods"  # RFC 8657


@dataclass(frozen=True, slots=True)
class CAARecord:
    """RFC 8659 section 4.1; ``tag`` in lower case, ``value`` as it is written there."""

    flags: int
    tag: str
    value: str

    def __str__(self) -> str:
        return plain(f'{self.flags} {self.tag} "{self.value}"')


@dataclass(frozen=True, slots=True)
class CAASet:
    """The relevant set of a name (RFC 8659 section 3): its own, or its nearest parent's.

    ``owner`` is whose it is. Without records, every CA may issue.
    """

    owner: str
    records: tuple[CAARecord, ...] = ()

    def __str__(self) -> str:
        if not self.records:
            return f"{self.owner} and its parents have no CAA records"
        shown = ", ".join(map(str, self.records[:MOST_RECORDS]))
        more = len(self.records) - MOST_RECORDS
        return f"CAA of {self.owner}: {shown}" + (f" and {more} more" if more > 0 else "")

    def allows(
        self,
        identities: tuple[str, ...],
        *,
        wildcard: bool,
        account: str | None = None,
        method: str | None = None,
    ) -> bool:
        """Whether a CA that goes by one of these names may issue (RFC 8659 section 4.2).

        Where they are given: to the ACME account of this URL, and by a challenge of this type
        (RFC 8657). Other parameters are the CA's affair.
        """
        if any(one.flags & CRITICAL and one.tag not in KNOWN for one in self.records):
            return False
        issue = [one.value for one in self.records if one.tag == "issue"]
        wild = [one.value for one in self.records if one.tag == "issuewild"]
        asked = wild if wildcard and wild else issue
        known = {identity.lower().rstrip(".") for identity in identities}
        return not asked or any(_matches(value, known, account, method) for value in asked)

    def remedy(
        self,
        identities: tuple[str, ...],
        *,
        wildcard: bool,
        account: str | None = None,
        method: str | None = None,
    ) -> str:
        """The record that would let this CA issue, with what of RFC 8657 the others have."""
        tag = (
            "issuewild" if wildcard and any(r.tag == "issuewild" for r in self.records) else "issue"
        )
        parts = [identities[0]]
        if self.allows(identities, wildcard=wildcard):
            said = " ".join(one.value.lower() for one in self.records if one.tag == tag)
            parts += [f"{ACCOUNT}={account}"] if account and ACCOUNT in said else []
            parts += [f"{METHODS}={method}"] if method and METHODS in said else []
        return plain(f'{self.owner}. CAA 0 {tag} "{"; ".join(parts)}"')


def _matches(value: str, known: set[str], account: str | None, method: str | None) -> bool:
    issuer, *rest = (part.strip() for part in value.split(";"))
    pairs = [part.partition("=") for part in rest if part]
    parameters = [(key.strip().lower(), text.strip()) for key, _, text in pairs]
    accounts = [text for key, text in parameters if key == ACCOUNT]
    methods = [re.split(r"\s*,\s*", text) for key, text in parameters if key == METHODS]
    return (
        issuer.lower().rstrip(".") in known
        # Of several accounts none is meant (RFC 8657 section 3).
        and (account is None or not accounts or accounts == [account])
        and (method is None or all(method in some for some in methods))
    )


def look_up(name: str, servers: Sequence[tuple[str, int]], seconds: float = SECONDS) -> CAASet:
    """The relevant set of a DNS name, or of a wildcard's parent, by the word of ``servers``.

    They are asked in turn; without any, the machine's own. Aliases are followed by them.

    Raises:
        Unresolved: it cannot be known now, and why.
    """
    # Only here and late: hardly anybody ever needs it.
    import dns.exception
    import dns.name
    import dns.nameserver
    import dns.resolver

    name = name.removeprefix("*.")
    end = time.monotonic() + seconds
    try:
        resolver = dns.resolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
        owner = dns.name.from_text(name)
        while owner != dns.name.root:
            records = _of(resolver, owner, end - time.monotonic())
            if records:
                return CAASet(owner.to_text(omit_final_dot=True), records)
            owner = owner.parent()
    except (dns.exception.DNSException, OSError, ValueError) as error:
        # Of dnspython's own texts some are long, and hold the whole question.
        kind = Silent if isinstance(error, dns.exception.Timeout) else Unresolved
        raise kind(f"CAA of {name} was looked up in vain ({type(error).__name__})") from error
    return CAASet(name)


def _of(resolver: Resolver, owner: Name, seconds: float) -> tuple[CAARecord, ...]:
    import dns.resolver

    try:
        answer = resolver.resolve(owner, "CAA", lifetime=max(seconds, 0.1), search=False)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return ()
    return tuple(
        CAARecord(one.flags, one.tag.decode("ascii").lower(), one.value.decode("utf-8", "replace"))
        for one in answer
    )
