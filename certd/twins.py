"""Certificates whose orders would be in each other's way: they wait for each other.

Those with the same names at the same CA, as RSA beside ECDSA: CAs give the same order to
whoever asks twice, and it can be finalized only once. Those that share a name which is proved
by TLS-ALPN-01: by one SNI there is one answer at a time, whoever asks.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from certd.known import Lineage
from certd.model import CertificateSpec
from certd.store import Store

Claims = frozenset[Hashable]


def claims(spec: CertificateSpec, ca: str) -> Claims:
    """What an order for this at that CA needs for itself."""
    own: set[Hashable] = {(ca, frozenset(spec.identifiers))}
    if "tls-alpn-01" in spec.challenges:
        own.update(spec.identifiers)
    return frozenset(own)


class Twins:
    """Which certificate has claimed what. Shared by all threads."""

    def __init__(self) -> None:
        self._holders: dict[Hashable, str] = {}  # the certificate, by what it has claimed
        self._claims: dict[str, Claims] = {}  # the same by certificate
        self._lock = threading.Lock()

    def has(self, name: str, claims: Claims) -> bool:
        """Whether another certificate has any of these; if not, this one has all from now on."""
        with self._lock:
            # Before the others are asked for: two that have swapped their names would wait
            # for each other.
            if self._claims.get(name, claims) != claims:
                self._leave(name)
            if any(self._holders.get(claim, name) != name for claim in claims):
                return True
            self._claims[name] = claims
            self._holders.update(dict.fromkeys(claims, name))
            return False

    def leave(self, name: str) -> None:
        """Its order is over."""
        with self._lock:
            self._leave(name)

    def _leave(self, name: str) -> None:
        for claim in self._claims.pop(name, ()):
            del self._holders[claim]


def in_the_way(
    twins: Twins, store: Store, spec: CertificateSpec, lineage: Lineage, ca: str
) -> bool:
    """Whether another certificate's order is, here or, for just these names, elsewhere."""
    if twins.has(spec.name, claims(spec, ca)):
        return True
    if lineage.ordering:  # who has one already does not wait
        return False
    if store.orders.elsewhere(spec.name, ca, spec.identifiers):
        twins.leave(spec.name)
        return True
    return False
