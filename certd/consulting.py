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
from certd.errors import CertdError, plain
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


def consult(
    spec: CertificateSpec,
    ca: str,
    error: CertdError,
    server: Server | None,
    issuer: Callable[[str], Issuer],
) -> Consulted | None:
    """The records behind this CA's refusal; None: it was not for CAA.

    ``server`` is the DNS server to ask, or None for this machine's.
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
    ours = _identities(issuer, ca) or ()
    forbidding = [one for name, one in found if not _allows(one, ours, name)]
    if not forbidding:
        return Consulted(
            f"as seen from here, CAA allows it ({_shown([one for _, one in found])}): the records "
            "may have changed since, differ between the zone's name servers, or allow another "
            "account or challenge only"
        )
    others = (other for other in spec.cas if other != ca)
    return Consulted(
        _shown(forbidding),
        _advice(forbidding[0], ours),
        frozenset(other for other in others if _may(issuer, other, found)),
        certain=True,
    )


def _look_up(names: list[Identifier], server: Server | None) -> list[tuple[Identifier, CAASet]]:
    end = time.monotonic() + ALL
    return [
        (name, look_up(name.value, server, min(SECONDS, end - time.monotonic()))) for name in names
    ]


def _identities(issuer: Callable[[str], Issuer], ca: str) -> tuple[str, ...] | None:
    """None: CAA is nothing to it. Empty: it does not tell, or cannot be asked now."""
    try:
        return issuer(ca).caa_identities()
    except CertdError as error:
        log.info("%s: by which names CAA records allow it is not known: %s", ca, error)
        return ()


def _may(issuer: Callable[[str], Issuer], ca: str, found: list[tuple[Identifier, CAASet]]) -> bool:
    identities = _identities(issuer, ca)
    return identities is None or all(_allows(one, identities, name) for name, one in found)


def _allows(found: CAASet, identities: tuple[str, ...], name: Identifier) -> bool:
    return found.allows(identities, wildcard=name.value.startswith("*."))


def _shown(sets: list[CAASet]) -> str:
    shown = list(dict.fromkeys(map(str, sets)))
    more = len(shown) - MOST
    return "; ".join(shown[:MOST]) + (f"; and {more} more" if more > 0 else "")


def _advice(found: CAASet, identities: tuple[str, ...]) -> str:
    if not identities:
        return "let the name's CAA records allow this CA"
    return f'allow this CA, as by {found.owner}. CAA 0 issue "{plain(identities[0])}"'
