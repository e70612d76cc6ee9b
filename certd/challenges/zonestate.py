"""The state of a zone, as its name servers and a validating resolver show it. For asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from certd.challenges.delegation import Address, NameServer

if TYPE_CHECKING:
    from dns.message import Message
    from publicsuffixlist import PublicSuffixList

SECONDS = 3.0  # for one question

# "unsigned" is also what a resolver says that does not validate.
Security = Literal["signed", "unsigned", "bogus", "unknown"]


@dataclass(frozen=True, slots=True)
class Serials:
    """Which version of the zone each name server has: by name; None: it does not answer."""

    found: dict[str, int | None]

    @property
    def silent(self) -> list[str]:
        return [name for name, serial in self.found.items() if serial is None]

    @property
    def differ(self) -> bool:
        return len({serial for serial in self.found.values() if serial is not None}) > 1

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'does not answer' if serial is None else f'has version {serial}'}"
            for name, serial in self.found.items()
        )


async def security(name: str, servers: Sequence[Address]) -> Security:
    """DNSSEC of a zone, or of any name, by the word of a resolver (RFC 4035 section 3.2).

    It sets AD for what it has validated, and says SERVFAIL for what is wrong, unless it is asked
    not to check (CD).
    """
    import dns.exception
    import dns.flags
    import dns.rcode

    try:
        at = (list(servers) or _ours())[0]
        said = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        answer = await _ask(name, at)
        if answer.rcode() == dns.rcode.SERVFAIL:
            unchecked = await _ask(name, at, dns.flags.CD)
            return "bogus" if unchecked.rcode() in said else "unknown"
        if answer.rcode() not in said:
            return "unknown"
        return "signed" if answer.flags & dns.flags.AD else "unsigned"
    except (dns.exception.DNSException, OSError, EOFError, ValueError, IndexError):
        return "unknown"


async def serials(zone: str, servers: Sequence[NameServer], port: int) -> Serials:
    """Of each by the first of its addresses that answers."""
    found = await asyncio.gather(*(_serial(zone, one, port) for one in servers))
    return Serials({one.name: serial for one, serial in zip(servers, found, strict=True)})


async def _serial(zone: str, server: NameServer, port: int) -> int | None:
    # All at once: of several silent ones each would be waited for.
    found = await asyncio.gather(*(_serial_at(zone, one, port) for one in server.addresses))
    return next((serial for serial in found if serial is not None), None)


async def _serial_at(zone: str, address: str, port: int) -> int | None:
    import dns.exception
    import dns.flags

    try:
        answer = await _ask(zone, (address, port), recursive=False)
    except (dns.exception.DNSException, OSError, EOFError, ValueError):
        return None
    if answer.flags & dns.flags.AA:
        for records in answer.answer:
            for item in records:
                if records.rdtype.name == "SOA":
                    return int(item.serial)
    return None


def nobodys(zone: str) -> bool:
    """Whether it is a registry's: what is still in it, and in no zone below, nobody has."""
    return bool(_suffixes().publicsuffix(zone) == zone)


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # it takes a while, and few need it

    # Not those of hosters and dynamic DNS: their users' names are in the hoster's own zone.
    return PublicSuffixList(accept_unknown=False, only_icann=True)


def _ours() -> list[Address]:
    import dns.resolver

    return [(str(one), 53) for one in dns.resolver.Resolver().nameservers]


async def _ask(zone: str, at: Address, flags: int = 0, *, recursive: bool = True) -> Message:
    import dns.asyncbackend
    import dns.asyncquery
    import dns.flags
    import dns.message

    query = dns.message.make_query(zone, "SOA", want_dnssec=recursive)
    query.flags |= flags | (dns.flags.AD if recursive else 0)
    if not recursive:
        query.flags &= ~dns.flags.RD
    backend = dns.asyncbackend.get_backend("asyncio")
    answer, _ = await dns.asyncquery.udp_with_fallback(
        query, at[0], timeout=SECONDS, port=at[1], backend=backend
    )
    return answer
