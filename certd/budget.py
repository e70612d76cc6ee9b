"""A CA's published limits as token buckets: may an order be made now, and if not, when?

PURE. A bucket is known by one instant, at which it is full again; it fills evenly. That is
how Let's Encrypt counts (letsencrypt.org/docs/rate-limits), so ours never run ahead of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from certd.model import Identifier

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

FEW = 10  # tokens: of fewer, none are set aside for others
NEW_NAMES, RENEWALS = 0.2, 0.15  # shares that are left to what presses more, at most


@dataclass(frozen=True, slots=True)
class Limit:
    """``count`` within ``period``: so many at once, then one each ``period / count``."""

    count: int
    period: timedelta

    def __str__(self) -> str:
        hours = self.period.total_seconds() / 3600
        within = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:g} h"
        return f"{self.count} within {within}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one CA; None: it has none. ``renewals_exempt``: a renewal that replaces a certificate
    (RFC 9773) counts for none of them, one for the same names only for ``same``.
    """

    orders: Limit | None = None  # new orders of an account
    domain: Limit | None = None  # certificates for names below one registered domain
    same: Limit | None = None  # certificates for exactly the same names
    failures: Limit | None = None  # failed validations of one name
    renewals_exempt: bool = False


NO_LIMITS = Limits()
LETS_ENCRYPT = Limits(
    Limit(300, timedelta(hours=3)),
    Limit(50, timedelta(days=7)),
    Limit(5, timedelta(days=7)),
    Limit(5, timedelta(hours=1)),
    renewals_exempt=True,
)


@dataclass(frozen=True, slots=True)
class Need:
    """What an order takes from one bucket; ``looks``: it only must not be empty."""

    limit: Limit
    what: str  # for people
    looks: bool = False


def needs(
    directory: str,
    identifiers: tuple[Identifier, ...],
    limits: Limits,
    *,
    renewal: bool,
    replaces: bool,
) -> dict[str, Need]:
    """The buckets that an order for these names takes from, by key.

    ``renewal``: the current certificate has the same names; ``replaces``: and the order
    says so to the CA that issued it.
    """
    found: dict[str, Need] = {}
    exempt = limits.renewals_exempt and renewal
    if limits.orders and not exempt:
        found[f"orders {directory}"] = Need(limits.orders, "new orders")
    if limits.domain and not exempt:
        for domain in _domains(identifiers):
            need = Need(limits.domain, f"certificates below {domain}")
            found[f"domain {directory} {domain}"] = need
    if limits.same and not (exempt and replaces):
        found[f"same {directory} {_digest(identifiers)}"] = Need(
            limits.same, "certificates for the same names"
        )
    if limits.failures:
        for name in identifiers:
            need = Need(limits.failures, f"failed validations of {name}", looks=True)
            found[failures_key(directory, name)] = need
    return found


def failures_key(directory: str, identifier: Identifier) -> str:
    return f"failures {directory} {identifier}"


def reserve(left: timedelta | None, lifetime: timedelta | None) -> float:
    """The share of a bucket that is left to others: to renewals, and the more the nearer expiry.

    So the next token of an empty bucket goes to what expires next. ``left`` of the
    ``lifetime`` of the certificate that is served; None: there is none.
    """
    if left is None or lifetime is None:
        return NEW_NAMES
    return RENEWALS * min(max(left / lifetime, 0.0), 1.0)


def taken(full_at: datetime | None, need: Need, share: float, now: datetime) -> datetime | None:
    """When the bucket is full again after this; None: it has not enough for it."""
    limit = need.limit
    after = max(full_at or now, now) + limit.period / limit.count
    if after - now > limit.period * (1 - (share if limit.count >= FEW else 0)):
        return None
    return after


def free_at(full_at: datetime, need: Need, share: float) -> datetime:
    """When there is enough in a bucket that has not."""
    limit = need.limit
    kept = share if limit.count >= FEW else 0
    return full_at + limit.period / limit.count - limit.period * (1 - kept)


def _domains(identifiers: Iterable[Identifier]) -> list[str]:
    """The registered domains, as the public suffix list has them; an address counts for itself."""
    found = {
        _registered(name.value.removeprefix("*.")) if name.type == "dns" else name.value
        for name in identifiers
    }
    return sorted(found)


@lru_cache(maxsize=10_000)
def _registered(name: str) -> str:
    return _suffixes().privatesuffix(name) or name


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # it takes a while, and few need it

    return PublicSuffixList()


def _digest(identifiers: Iterable[Identifier]) -> str:
    text = " ".join(sorted(f"{item.type}:{item.value}" for item in identifiers))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
