"""What a name's CAA records say, when a CA has refused because of them: who may issue instead.

A CA says little more than "CAA forbids it", and an order elsewhere that they forbid as well
would only be another failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from certd.authorize import OrderFailed
from certd.ca.issuer import Issuer
from certd.ca.problem import Problem
from certd.challenges.caa import SECONDS, CAASet, look_up
from certd.challenges.resolving import Unresolved
from certd.errors import CertdError
from certd.model import CertificateSpec, Identifier

log = logging.getLogger(__name__)

MOST = 5  # sets that are shown
ALL = 3 * SECONDS  # for all names together

Server = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Consulted:
    """``said`` and ``advice`` are for the operator; ``allowed`` are the other CAs of the
    certificate's that may issue by what was found. ``certain``: the records do forbid this one.
    """

    said: str
    advice: str = ""
    allowed: frozenset[str] = frozenset()
    certain: bool = False


@dataclass(slots=True)
class _Asked:
    ca: str
    identities: tuple[str, ...] | None
    method: str
    account: str | None = None

    def may(self, name: Identifier, found: CAASet) -> bool:
        return found.allows(
            self.identities or (),
            wildcard=name.value.startswith("*."),
            account=self.account,
            method=self.method,
        )

    def remedy(self, name: Identifier, found: CAASet) -> str:
        if not self.identities:
            return "let the name's CAA records allow this CA"
        wild = name.value.startswith("*.")
        record = found.remedy(
            self.identities, wildcard=wild, account=self.account, method=self.method
        )
        return f"allow this CA, as by {record}"


def consult(
    spec: CertificateSpec,
    ca: str,
    error: CertdError,
    server: Server | None,
    issuer: Callable[[str], Issuer],
    account: Callable[[Issuer], str | None],
    method: str,
) -> Consulted | None:
    """The records behind this CA's refusal; None: it was not for CAA.

    ``server`` is the DNS server to ask, or None for this machine's. ``account`` tells the URL of
    our account at a CA, ``method`` is the challenge: records may name these too (RFC 8657).
    """
    if not isinstance(error, Problem | OrderFailed) or error.refusal is None:
        return None
    if "caa" not in (error.refusal.type, *error.refusal.subproblems):
        return None
    names = getattr(error, "invalid", ()) or spec.identifiers
    try:
        found = _look_up([name for name in names if name.type == "dns"], server)
    except Unresolved as unresolved:
        return Consulted(f"what their CAA records are is not known: {unresolved}")
    asked = [_Asked(other, _identities(issuer, other), method) for other in spec.cas]
    for one in asked:
        if one.identities:
            one.account = account(issuer(one.ca))
    this = next((one for one in asked if one.ca == ca), _Asked(ca, (), method))
    forbidding = [(name, one) for name, one in found if not this.may(name, one)]
    if not forbidding:
        return Consulted(
            f"as seen from here, CAA allows it ({_shown([one for _, one in found])}): the records "
            "may have changed since, or differ between the zone's name servers"
        )
    others = (
        one.ca
        for one in asked
        if one is not this and (one.identities is None or all(one.may(*item) for item in found))
    )
    return Consulted(
        _shown([one for _, one in forbidding]),
        this.remedy(*forbidding[0]),
        frozenset(others),
        certain=True,
    )


def _look_up(names: list[Identifier], server: Server | None) -> list[tuple[Identifier, CAASet]]:
    end, servers = time.monotonic() + ALL, [server] if server else []
    return [
        (name, look_up(name.value, servers, min(SECONDS, end - time.monotonic()))) for name in names
    ]


def _identities(issuer: Callable[[str], Issuer], ca: str) -> tuple[str, ...] | None:
    """None: CAA is nothing to it. Empty: it does not tell, or cannot be asked now."""
    try:
        return issuer(ca).caa_identities()
    except CertdError as error:
        log.info("%s: by which names CAA records allow it is not known: %s", ca, error)
        return ()


def _shown(sets: list[CAASet]) -> str:
    shown = list(dict.fromkeys(map(str, sets)))
    more = len(shown) - MOST
    return "; ".join(shown[:MOST]) + (f"; and {more} more" if more > 0 else "")
