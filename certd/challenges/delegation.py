"""Where a record really belongs: aliases, zone cut, name servers. For asyncio.

A name may be an alias of one in another zone, which is how a challenge is answered by an account
that may write there only: aliases come first, and the zone is that of where they end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certd.challenges.resolving import Refused, Silent, Unresolved
from certd.errors import ChallengeError, plain

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

MOST_ALIASES = 8  # as most resolvers have it
SECONDS = 5.0  # for one question
AGE = 30.0  # seconds for which what was found of a zone holds

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class NameServer:
    """One of a zone's; without addresses it cannot be asked."""

    name: str
    addresses: tuple[str, ...]


class Resolving:
    """Questions to a recursive resolver. Within one event loop only."""

    def __init__(self, servers: Sequence[Address]) -> None:
        """``servers`` are asked in turn; without any, this machine's."""
        self._resolver = _resolver(servers)
        ours = [(str(one), self._resolver.port) for one in self._resolver.nameservers]
        self._whom = ", ".join(f"{host}:{port}" for host, port in servers or ours)
        self._servers: dict[str, tuple[float, asyncio.Future[tuple[NameServer, ...]]]] = {}

    async def follow(self, name: str) -> str:
        """Where the aliases of a name end.

        Raises:
            ChallengeError: they never do.
            Unresolved: it cannot be known now.
        """
        passed = [name]
        while target := await self._alias(passed[-1]):
            if target in passed:
                raise ChallengeError(
                    f"{name} leads nowhere",
                    f"its aliases go round: {' -> '.join([*passed, target])}",
                    "correct these CNAME records",
                )
            passed.append(target)
            if len(passed) > MOST_ALIASES + 1:
                raise ChallengeError(
                    f"{name} leads nowhere",
                    f"it is an alias of an alias, {MOST_ALIASES} times and on: "
                    f"{' -> '.join(passed[:3])} -> …",
                    "let its CNAME record name where the record is to be",
                )
        return passed[-1]

    async def zone(self, name: str) -> str:
        """The zone that a name is in, whether or not there is such a name.

        Raises:
            ChallengeError: there is none.
            Unresolved: it cannot be known now.
        """
        import dns.name

        owner = dns.name.from_text(name)
        while owner != dns.name.root:
            found = await self._start_of_authority(owner.to_text(omit_final_dot=True))
            if found:
                return found
            owner = owner.parent()
        raise ChallengeError(
            f"{name} is in no zone",
            "DNS knows none above it",
            "register the domain, or correct the name",
        )

    async def name_servers(self, zone: str) -> tuple[NameServer, ...]:
        """Those of a zone, with all their addresses.

        Raises:
            Unresolved: it has none, or they cannot be known now.
        """
        # One question for all records of a zone, which are mostly asked for at the same time.
        now = asyncio.get_running_loop().time()
        known = self._servers.get(zone)
        if known is None or now - known[0] >= AGE:
            self._forget_old(now)
            known = now, asyncio.ensure_future(self._name_servers(zone))
            self._servers[zone] = known
        try:
            return await asyncio.shield(known[1])
        except Unresolved:
            self._servers.pop(zone, None)
            raise

    def _forget_old(self, now: float) -> None:
        for zone, (since, _) in list(self._servers.items()):
            if now - since >= AGE:
                del self._servers[zone]

    async def _name_servers(self, zone: str) -> tuple[NameServer, ...]:
        answer = await self._ask(zone, "NS")
        names = sorted({str(item.target).rstrip(".").lower() for item in answer})
        if not names:
            raise Unresolved(f"{zone} has no name servers")
        return tuple(await asyncio.gather(*map(self._name_server, names)))

    async def _name_server(self, name: str) -> NameServer:
        addresses: list[str] = []
        for kind in ("A", "AAAA"):
            with contextlib.suppress(Unresolved):
                addresses += [str(item.address) for item in await self._ask(name, kind)]
        return NameServer(name, tuple(addresses))

    async def _alias(self, name: str) -> str:
        for item in await self._ask(name, "CNAME"):
            return plain(str(item.target).rstrip(".").lower())
        return ""

    async def _start_of_authority(self, name: str) -> str:
        """The zone, by its own record, or by that which comes with a denial; "": neither."""
        import dns.name
        import dns.rdatatype
        import dns.resolver

        try:
            answer = await self._resolver.resolve(
                name, "SOA", raise_on_no_answer=False, search=False
            )
            response = answer.response
        except dns.resolver.NXDOMAIN as denied:
            response = denied.response(dns.name.from_text(name))  # type: ignore[no-untyped-call]
        except Exception as error:
            raise self._unresolved(name, "SOA", error) from error
        for records in (*response.answer, *response.authority):
            if records.rdtype == dns.rdatatype.SOA:
                owner = records.name.to_text(omit_final_dot=True).lower()
                if owner and (name == owner or name.endswith(f".{owner}")):
                    return plain(owner)
        return ""

    async def _ask(self, name: str, kind: str) -> list[Any]:
        """Empty where there are none."""
        import dns.resolver

        try:
            answer = await self._resolver.resolve(
                name, kind, raise_on_no_answer=False, search=False
            )
        except dns.resolver.NXDOMAIN:
            return []
        except Exception as error:
            raise self._unresolved(name, kind, error) from error
        return list(answer.rrset or ())

    def _unresolved(self, name: str, kind: str, error: Exception) -> Unresolved:
        import dns.exception
        import dns.resolver

        if isinstance(error, dns.resolver.NoNameservers):
            why = f"SERVFAIL, or no answer that can be used, from {self._whom}"
            return Refused(f"{kind} of {name}: {why}")
        if isinstance(error, dns.exception.Timeout):
            return Silent(f"{kind} of {name}: no answer in time from {self._whom}")
        if isinstance(error, dns.exception.DNSException | OSError | ValueError):
            return Unresolved(f"{kind} of {name}: {type(error).__name__}")
        raise error


def _resolver(servers: Sequence[Address]) -> Resolver:
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver

    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
    except (dns.exception.DNSException, OSError) as error:
        raise Unresolved(f"this machine has no DNS servers ({type(error).__name__})") from error
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
    resolver.lifetime = SECONDS
    return resolver
