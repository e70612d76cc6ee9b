"""Before an order: do the names' zones let it succeed? What is looked at, ``certd plan`` shows.

CAA (RFC 8659, RFC 8657), DNSSEC, where a challenge's record belongs, and whether its name servers
agree. What cannot be known is no reason to refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from certd.authorize import OrderFailed
from certd.challenges.caa import CAASet, look_up
from certd.challenges.dns01 import PREFIX, record_name
from certd.challenges.resolving import Unresolved
from certd.challenges.view import Vantage, View
from certd.challenges.zonestate import security, serials
from certd.errors import CertdError, ChallengeError
from certd.model import WRITTEN, CertificateSpec, Identifier
from certd.react import Refusal

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MOST = 100  # names that are looked at; the others are mostly in the same zones
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom an order would be made at, and how its names would be proved."""

    ca: str
    identities: tuple[str, ...] | None  # None: CAA is nothing to it; empty: not known
    account: str | None  # its URL; None: there is none yet
    challenge: str


@dataclass
class Findings:
    """``state`` is what is well, ``doubts`` what may not be; ``error``: it would be in vain."""

    state: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    error: CertdError | None = None

    def refuse(self, error: CertdError) -> None:
        self.error = self.error or error


def examine(spec: CertificateSpec, asked: Asked, vantages: dict[str, Vantage]) -> Findings:
    """``vantages``: from where the zones of each of its names are looked at."""
    findings = Findings()
    names = [name for name in spec.identifiers if name.type == "dns"][:MOST]
    if names:
        _caa(names, asked, vantages, findings)
        asyncio.run(_zones(names, asked, vantages, findings))
    return findings


def _caa(
    names: list[Identifier], asked: Asked, vantages: dict[str, Vantage], findings: Findings
) -> None:
    if not asked.identities:
        if asked.identities is not None:
            findings.state.append(f"CAA was not looked at: {asked.ca} does not say how it is named")
        return

    def look(name: Identifier) -> CAASet | str:
        servers = vantages[name.value].resolvers
        try:
            return look_up(name.value, servers[0] if servers else None)
        except Unresolved as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(zip(names, pool.map(look, names), strict=True))
    unknown = [text for _, text in found if isinstance(text, str)]
    findings.doubts += unknown[:1]
    sets = [(name, one) for name, one in found if isinstance(one, CAASet)]
    forbidding = [(name, one) for name, one in sets if not _allows(one, name, asked)]
    if forbidding:
        name, one = forbidding[0]
        findings.refuse(
            OrderFailed(
                f"CAA does not let {asked.ca} certify {name}",
                f"{one}{_parameters(one, name, asked)}",
                f'allow it, as by {one.owner}. CAA 0 issue "{asked.identities[0]}"',
                Refusal("caa", 403),
                "new order",
                tuple(name for name, _ in forbidding),
            )
        )
    elif sets and not unknown:
        having = sorted({one.owner for _, one in sets if one.records})
        where = f" (records of {', '.join(having[:3])})" if having else " (no records)"
        findings.state.append(f"CAA allows {asked.ca}{where}")


def _allows(one: CAASet, name: Identifier, asked: Asked, *, whole: bool = True) -> bool:
    return one.allows(
        asked.identities or (),
        wildcard=name.value.startswith("*."),
        account=asked.account if whole else None,
        method=asked.challenge if whole else None,
    )


def _parameters(one: CAASet, name: Identifier, asked: Asked) -> str:
    """What to say where the CA is allowed, but to another account or by other challenges."""
    if not _allows(one, name, asked, whole=False):
        return ""
    return f"; our account there is {asked.account or 'not made yet'}, by {asked.challenge}"


async def _zones(
    names: list[Identifier], asked: Asked, vantages: dict[str, Vantage], findings: Findings
) -> None:
    view, by_record = View(), asked.challenge in WRITTEN
    places: dict[str, Vantage] = {}
    for name in names:
        wanted = name.value.removeprefix("*.")
        if by_record:
            wanted = record_name(name.value, asked.challenge, asked.account or "")
        places.setdefault(wanted, vantages[name.value])

    async def place(wanted: str, vantage: Vantage) -> tuple[str, Vantage] | None:
        try:
            target, zone = await view.place(wanted, vantage)
        except (ChallengeError, Unresolved) as error:
            if by_record and isinstance(error, ChallengeError):
                findings.refuse(error)
            else:
                findings.doubts.append(str(error))
            return None
        if target != wanted and _nobodys(zone):
            findings.refuse(_dangling(wanted, target))
        return zone, vantage

    found = await asyncio.gather(*(place(*item) for item in places.items()))
    zones = dict(item for item in found if item)
    for zone, vantage in sorted(zones.items()):
        await _zone(zone, vantage, view, findings, by_record=by_record)


async def _zone(
    zone: str, vantage: Vantage, view: View, findings: Findings, *, by_record: bool
) -> None:
    state = await security(zone, vantage.resolvers)
    if state == "bogus":
        findings.refuse(
            ChallengeError(
                f"the zone {zone} cannot be validated",
                "its DNSSEC signatures are wrong: a validating resolver refuses its answers, as "
                "CAs do",
                "tell who runs the zone: signatures that have expired, or a DS record above it "
                "that fits no key",
            )
        )
    elif state == "signed":
        findings.state.append(f"{zone} is signed (DNSSEC), and validates")
    elif state == "unsigned":
        findings.state.append(f"{zone} is not signed, or the resolver does not validate")
    if not by_record:
        return
    try:
        servers = await view.name_servers(zone, vantage)
    except ChallengeError as error:
        findings.doubts.append(str(error))
        return
    seen = await serials(zone, servers, vantage.port)
    if seen.differ:
        findings.doubts.append(f"the name servers of {zone} have different versions: {seen}")
    elif seen.silent:
        silent = ", ".join(seen.silent)
        findings.doubts.append(f"of the name servers of {zone}, {silent} cannot be asked from here")
    else:
        findings.state.append(f"{len(seen.found)} name servers of {zone} agree")


def _nobodys(zone: str) -> bool:
    """Whether below it everybody may register domains: what is in it is registered by nobody."""
    return "." not in zone or _suffixes().publicsuffix(zone) == zone


def _dangling(wanted: str, target: str) -> ChallengeError:
    name = wanted.partition(f"{PREFIX}.")[2]
    return ChallengeError(
        f"the alias of {wanted} dangles",
        f"it leads to {target}, in a domain that nobody has: whoever registers it can have "
        f"certificates for {name}",
        "remove this CNAME record, or let it lead to a zone of yours",
    )


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # it takes a while, and few need it

    return PublicSuffixList(accept_unknown=False)


def lines(findings: Findings) -> Iterable[str]:
    """For people, the gravest first."""
    if findings.error:
        yield f"in vain: {findings.error}"
    yield from (f"perhaps: {doubt}" for doubt in dict.fromkeys(findings.doubts))
    yield from dict.fromkeys(findings.state)
