"""Do a zone's own name servers have a record by now? For asyncio.

Each is asked by itself, at all its addresses, for the CA may ask any of them. What a resolver
says is no help: it may keep a denial for hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from certd.challenges.delegation import NameServer
from certd.errors import ChallengeError, plain
from certd.model import TxtRecord
from certd.silence import Silences

if TYPE_CHECKING:
    from dns.message import Message

TRY_SECONDS = 2.0  # for one datagram; a second one is sent, for the first may be lost
TRIES = 2
FIRST, LONGEST = 0.1, 10.0  # seconds between looks, which are ever longer
PAYLOAD = 1232  # bytes of a datagram (https://www.dnsflagday.net/2020/)
LONGEST_VALUE = 4096  # characters
MOST_NAMED = 5  # name servers in an error

Kind = Literal["all", "quorum"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is waited for: ``good`` says of a name's TXT values whether it is among them."""

    zone: str
    name: str
    good: Callable[[Collection[str]], bool]

    @classmethod
    def record(cls, record: TxtRecord, zone: str) -> Wanted:
        return cls(zone, record.name, lambda values: record.value in values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one name server. ``answers``: it speaks for the zone, if perhaps too early."""

    has: bool
    answers: bool
    why: str = ""


async def wait_for(
    wanted: Wanted,
    servers: Sequence[NameServer],
    port: int,
    kind: Kind,
    until: float,
    tell: Callable[[str], None],
    turn: Callable[[Awaitable[Verdict]], Awaitable[Verdict]],
    silences: Silences,
) -> None:
    """Return once enough of them have the record.

    ``until`` is by the loop's clock. ``tell`` is told what is still waited for; ``turn`` lets
    so many questions through at once. Who is in ``silences`` is left alone for a while, whichever
    record it is asked for: an order may have two hundred.

    Raises:
        ChallengeError: they have not in time, and which.
    """
    loop = asyncio.get_running_loop()
    verdicts: dict[str, Verdict] = {}
    pause = FIRST
    while True:
        todo = [one for one in servers if not (one.name in verdicts and verdicts[one.name].has)]
        found = await asyncio.gather(*(turn(_verdict(one, wanted, port, silences)) for one in todo))
        verdicts.update({one.name: verdict for one, verdict in zip(todo, found, strict=True)})
        have = sum(verdict.has for verdict in verdicts.values())
        if _enough(kind, verdicts):
            return
        missing = "; ".join(_missing(servers, verdicts)[:MOST_NAMED])
        if loop.time() >= until:
            raise _too_late(wanted, missing, have, len(servers), kind, verdicts)
        tell(f"{have} of {len(servers)} name servers of {wanted.zone} have it: {missing}")
        await asyncio.sleep(min(pause, max(until - loop.time(), 0.0)))
        pause = min(pause * 1.5, LONGEST)


def _enough(kind: Kind, verdicts: Mapping[str, Verdict]) -> bool:
    """All; or more than half; or half, if it is only silence that keeps the others from it."""
    have, total = sum(one.has for one in verdicts.values()), len(verdicts)
    late = any(one.answers and not one.has for one in verdicts.values())
    if kind == "all" or have == total:
        return have == total
    return 2 * have > total or (2 * have == total and have > 0 and not late)


def _missing(servers: Sequence[NameServer], verdicts: dict[str, Verdict]) -> list[str]:
    return [f"{one.name} {verdicts[one.name].why}" for one in servers if not verdicts[one.name].has]


def _too_late(
    wanted: Wanted,
    missing: str,
    have: int,
    total: int,
    kind: Kind,
    verdicts: dict[str, Verdict],
) -> ChallengeError:
    step = "see whether the zone's other servers follow the first, or wait longer by timeout"
    if kind == "all" and have and all(one.has or not one.answers for one in verdicts.values()):
        step = (
            'mend that server, or let the zone do without; propagation = "quorum" goes on without '
            "servers that do not answer"
        )
    elif not any(one.answers for one in verdicts.values()):
        step = (
            "see whether this machine may ask them, by UDP and TCP; where it may not, set "
            'propagation = "wait"'
        )
    return ChallengeError(
        f"{wanted.name} is not to be seen in time, so the CA was not told to look",
        f"{have} of {total} name servers of {wanted.zone} have it: {missing}",
        step,
    )


async def _verdict(server: NameServer, wanted: Wanted, port: int, silences: Silences) -> Verdict:
    """All of its addresses count: who does not answer at one may at another."""
    if not server.addresses:
        return Verdict(False, False, "has no address")
    found = await asyncio.gather(*(_ask(one, port, wanted, silences) for one in server.addresses))
    lacking = [one for one in found if one.answers and not one.has]
    having = [one for one in found if one.has]
    return (lacking or having or list(found))[0]


async def _ask(address: str, port: int, wanted: Wanted, silences: Silences) -> Verdict:
    import dns.exception

    why = silent = f"does not answer at {address}"
    begun, left = silences.begin(address)
    for _ in range(0 if left else TRIES):
        try:
            found = await _exchange(address, port, wanted)
            silences.answered(address)
            return found
        except dns.exception.Timeout:
            why = silent
        except (OSError, EOFError) as error:
            why = f"cannot be asked at {address}: {getattr(error, 'strerror', None) or 'cut off'}"
        except (dns.exception.DNSException, ValueError) as error:
            why = f"answers at {address} with what is no DNS ({type(error).__name__})"
    if why == silent and not left:
        silences.silent(address, address, begun)
    return Verdict(False, False, why)


async def _exchange(address: str, port: int, wanted: Wanted) -> Verdict:
    import dns.flags
    import dns.rcode

    answer = await _answer(address, port, wanted.name)
    code = answer.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        why = f"says {dns.rcode.to_text(code)} at {address}"
        lame = ": it does not serve the zone" if code == dns.rcode.REFUSED else ""
        return Verdict(False, False, why + lame)
    if not answer.flags & dns.flags.AA:
        return Verdict(False, False, f"is lame: at {address} it does not speak for the zone")
    values = _values(answer)
    if wanted.good(values):
        return Verdict(True, True)
    return Verdict(False, True, f"has {'another' if values else 'none'} at {address}")


async def values_at(address: str, port: int, name: str) -> frozenset[str] | None:
    """The TXT values that a name server has at a name; None: it does not say."""
    import dns.exception
    import dns.flags

    for _ in range(TRIES):
        try:
            answer = await _answer(address, port, name)
            return _values(answer) if answer.flags & dns.flags.AA else None
        except (dns.exception.DNSException, OSError, EOFError, ValueError):
            continue
    return None


async def _answer(address: str, port: int, name: str) -> Message:
    import dns.asyncbackend
    import dns.asyncquery
    import dns.flags
    import dns.message

    query = dns.message.make_query(name, "TXT", use_edns=0, payload=PAYLOAD)
    query.flags &= ~dns.flags.RD
    answer, _ = await dns.asyncquery.udp_with_fallback(
        query,
        address,
        timeout=TRY_SECONDS,
        port=port,
        backend=dns.asyncbackend.get_backend("asyncio"),
    )
    return answer


def _values(answer: Message) -> frozenset[str]:
    """Of all names in it: a server follows aliases within its own zones."""
    return frozenset(
        plain(b"".join(item.strings).decode("utf-8", "replace"), LONGEST_VALUE)
        for records in answer.answer
        for item in records
        if records.rdtype.name == "TXT"
    )
