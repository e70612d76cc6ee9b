"""Before an order: do the names' zones let it succeed? What is looked at, ``certd plan`` shows.

CAA (RFC 8659, RFC 8657), DNSSEC, where a challenge's record belongs, and whether its name servers
agree. What cannot be known is no reason to refuse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from certd.authorize import OrderFailed
from certd.challenges.caa import SECONDS, CAASet, look_up
from certd.challenges.dns01 import PREFIX, record_name
from certd.challenges.resolving import Refused, Silent, Unresolved
from certd.challenges.view import Vantage, View
from certd.challenges.zonestate import nobodys, security, serials
from certd.errors import CertdError, ChallengeError
from certd.model import WRITTEN, CertificateSpec, Identifier
from certd.react import Refusal

MOST = 100  # names that are looked at; the others are mostly in the same zones
AT_ONCE = 16
LOOKUPS = 2  # of aliases and zone
ALL = 10.0  # seconds for CAA of all names, and again for their zones: both at the same time
LOOK = ALL + 2.0  # so that what a silent resolver was asked ends by itself, and is told better


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom an order would be made at, and how its names would be proved."""

    ca: str
    identities: tuple[str, ...] | None  # None: CAA is nothing to it; empty: not known
    account: str | None  # its URL; None: there is none yet
    challenge: str
    others: tuple[str, ...] = ()  # challenges that may be tried in its place, in turn
    before: tuple[str, ...] = ()  # those in whose place it is tried
    failed: str = ""  # what came of these


@dataclass
class Findings:
    """``state`` is what is well, ``doubts`` what may not be; ``error``: it would be in vain."""

    state: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    error: CertdError | None = None
    heard: bool = False  # a resolver has answered anything at all, or none was asked
    instead: str = ""  # a challenge that CAA permits, where it forbids that which was asked for

    def refuse(self, error: CertdError) -> None:
        self.error = self.error or error


def examine(spec: CertificateSpec, asked: Asked, vantages: dict[str, Vantage]) -> Findings:
    """From ``vantages``, by name; of a later challenge, where CAA forbids the first."""
    found = _examine(spec, asked, vantages)
    if not found.instead:
        return found
    rest = asked.others[asked.others.index(found.instead) + 1 :]
    again = examine(spec, replace(asked, challenge=found.instead, others=rest), vantages)
    said, instead = found.state[:1], again.instead or found.instead
    return replace(again, state=said + again.state, instead=instead)


def _examine(spec: CertificateSpec, asked: Asked, vantages: dict[str, Vantage]) -> Findings:
    findings = Findings()
    names = [name for name in spec.identifiers if name.type == "dns"][:MOST]
    if not names:
        return Findings(heard=True)
    caa = Findings()
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(_caa, names, asked, vantages, caa)
        asyncio.run(_in_time(_zones(names, asked, vantages, findings), findings))
        done.result()
    return Findings(
        caa.state + findings.state,
        caa.doubts + findings.doubts,
        caa.error or findings.error,
        caa.heard or findings.heard,
        caa.instead,
    )


async def _in_time(look: Awaitable[None], findings: Findings) -> None:
    try:
        await asyncio.wait_for(look, LOOK)
    except TimeoutError:
        findings.doubts.append(f"DNS was slow: after {LOOK:.0f} seconds not all was known")


def _caa(
    names: list[Identifier], asked: Asked, vantages: dict[str, Vantage], findings: Findings
) -> None:
    if not asked.identities:
        if asked.identities is not None:
            findings.state.append(f"CAA was not looked at: {asked.ca} does not say how it is named")
        return

    def look(name: Identifier) -> CAASet | str:
        servers = vantages[name.value].resolvers
        left = min(SECONDS, until - time.monotonic())
        if left <= 0:
            return f"CAA of {name} was not looked up: DNS was slow"
        try:
            found = look_up(name.value, servers, left)
        except Unresolved as error:
            findings.heard |= not isinstance(error, Silent)
            return str(error)
        findings.heard = True
        return found

    until = time.monotonic() + ALL
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(zip(names, pool.map(look, names), strict=True))
    unknown = [text for _, text in found if isinstance(text, str)]
    findings.doubts += unknown[:1]
    sets = [(name, one) for name, one in found if isinstance(one, CAASet)]
    forbidding = [(name, one) for name, one in sets if not _allows(one, name, asked)]
    if forbidding and (instead := _permitted(sets, asked)):
        findings.instead = instead
        text = (
            f"CAA lets {asked.ca} certify {forbidding[0][0]} by {instead}, not by {asked.challenge}"
        )
        findings.state.append(text)
    elif forbidding:
        earlier = _permitted(sets, replace(asked, others=asked.before))
        findings.refuse(_forbidden(forbidding, asked, earlier))
    elif sets and not unknown:
        having = sorted({one.owner for _, one in sets if one.records})
        where = f" (records of {', '.join(having[:3])})" if having else " (no records)"
        findings.state.append(f"CAA allows {asked.ca}{where}")
    if asked.account is None:
        new = replace(asked, account="")
        others = [one for name, one in sets if not _allows(one, name, new)]
        if others and not forbidding:
            findings.doubts.append(f"{others[0]}: our account there is not made yet")


def _forbidden(
    forbidding: list[tuple[Identifier, CAASet]], asked: Asked, earlier: str
) -> CertdError:
    """``earlier`` is a challenge that is permitted, and was given up for this one; "": none is."""
    name, one = forbidding[0]
    if earlier:  # it is as well to try that again as after any other failure
        return ChallengeError(
            f"CAA lets {asked.ca} certify {name} by {earlier} only, not by {asked.challenge}",
            f"{one}; {earlier} was tried before: {asked.failed}" if asked.failed else str(one),
            f"mend {earlier}, or allow {asked.challenge}, as by {_remedy(one, name, asked)}",
        )
    return OrderFailed(
        f"CAA does not let {asked.ca} certify {name}",
        f"{one}{_parameters(one, name, asked)}",
        f"allow it, as by {_remedy(one, name, asked)}",
        Refusal("caa", 403),
        "new order",
        tuple(name for name, _ in forbidding),
    )


def _permitted(sets: list[tuple[Identifier, CAASet]], asked: Asked) -> str:
    """The first of the other challenges that the records of all names permit; "": there is none."""
    ways = (replace(asked, challenge=other) for other in asked.others)
    allowed = (way for way in ways if all(_allows(one, name, way) for name, one in sets))
    return next((way.challenge for way in allowed), "")


def _allows(one: CAASet, name: Identifier, asked: Asked, *, whole: bool = True) -> bool:
    return one.allows(
        asked.identities or (),
        wildcard=name.value.startswith("*."),
        account=asked.account if whole else None,
        method=asked.challenge if whole else None,
    )


def _remedy(one: CAASet, name: Identifier, asked: Asked) -> str:
    return one.remedy(
        asked.identities or (),
        wildcard=name.value.startswith("*."),
        account=asked.account,
        method=asked.challenge,
    )


def _parameters(one: CAASet, name: Identifier, asked: Asked) -> str:
    """What to say where the CA is allowed, but to another account or by other challenges."""
    if not _allows(one, name, asked, whole=False):
        return ""
    return f"; our account there is {asked.account or 'not made yet'}, by {asked.challenge}"


async def _zones(
    names: list[Identifier], asked: Asked, vantages: dict[str, Vantage], findings: Findings
) -> None:
    by_record = asked.challenge in WRITTEN
    view = View(LOOKUPS if by_record else 1)  # where it only adds to what is known, once
    places: dict[str, Vantage] = {}
    for name in names:
        wanted = name.value.removeprefix("*.")
        if by_record:
            wanted = record_name(name.value, asked.challenge, asked.account or "")
        places.setdefault(wanted, vantages[name.value])

    async def place(wanted: str, vantage: Vantage) -> tuple[str, Vantage] | None:
        try:
            target, zone = await view.place(wanted, vantage)
            findings.heard = True
        except (ChallengeError, Unresolved) as error:
            findings.heard |= not isinstance(error.__cause__ or error, Silent)
            # A resolver that validates gives no answer at all from such a zone.
            refused = isinstance(error.__cause__, Refused)
            if refused and await security(wanted, vantage.resolvers) == "bogus":
                findings.refuse(_bogus(wanted))
            elif by_record and isinstance(error, ChallengeError):
                findings.refuse(error)
            else:
                findings.doubts.append(str(error))
            return None
        if target != wanted and nobodys(zone):
            findings.refuse(_dangling(wanted, target))
        return zone, vantage

    found = await asyncio.gather(*(place(*item) for item in places.items()))
    zones = dict(item for item in found if item)
    looks = (_zone(*item, view, by_record=by_record) for item in sorted(zones.items()))
    for one in await asyncio.gather(*looks):
        findings.state += one.state
        findings.doubts += one.doubts
        if one.error:
            findings.refuse(one.error)


async def _zone(zone: str, vantage: Vantage, view: View, *, by_record: bool) -> Findings:
    findings = Findings()
    state = await security(zone, vantage.resolvers)
    if state == "bogus":
        findings.refuse(_bogus(zone))
    elif state == "signed":
        findings.state.append(f"{zone} is signed (DNSSEC), and validates")
    elif state == "unsigned":
        findings.state.append(f"{zone} is not signed, or the resolver does not validate")
    if by_record:
        await _name_servers(zone, vantage, view, findings)
    return findings


async def _name_servers(zone: str, vantage: Vantage, view: View, findings: Findings) -> None:
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


def _bogus(name: str) -> ChallengeError:
    return ChallengeError(
        f"what DNS says of {name} cannot be validated",
        "DNSSEC signatures are wrong: a validating resolver refuses the answers, as CAs do",
        "tell who runs the zone: signatures that have expired, or a DS record above it that fits "
        "no key",
    )


def _dangling(wanted: str, target: str) -> ChallengeError:
    name = wanted.partition(f"{PREFIX}.")[2] or wanted
    return ChallengeError(
        f"the alias of {wanted} dangles",
        f"it leads to {target}, in a domain that nobody has: whoever registers it can have "
        f"certificates for {name}",
        "remove this CNAME record, or let it lead to a zone of yours",
    )


def lines(findings: Findings) -> Iterable[str]:
    """For people, the gravest first."""
    if findings.error:
        yield f"in vain: {findings.error}"
    yield from (f"perhaps: {doubt}" for doubt in dict.fromkeys(findings.doubts))
    yield from dict.fromkeys(findings.state)
