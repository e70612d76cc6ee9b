"""What DNS shows of a name from here, asked patiently. For asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from certd.challenges.delegation import Address, NameServer, Resolving
from certd.challenges.dns01 import lasting_allows, lasting_name
from certd.challenges.propagation import Kind, Wanted, values_at, wait_for
from certd.challenges.resolving import Unresolved
from certd.config import Config, DNSSettings
from certd.errors import ChallengeError
from certd.silence import Silences

T = TypeVar("T")

QUESTIONS = 128  # to name servers at once
LOOKUPS = 3  # of aliases and zone, before it counts as failed
PAUSE = 0.5  # seconds between them


@dataclass(frozen=True, slots=True)
class Vantage:
    """From where it is looked: ``resolvers`` are asked for aliases, zones and addresses (none: this
    machine's), and name servers themselves at ``port``.
    """

    resolvers: tuple[Address, ...] = ()
    port: int = 53


def vantage(config: Config, account: DNSSettings | None = None) -> Vantage:
    """From where it is looked, for this account's zones or for any."""
    servers = tuple((one.host, one.port) for one in account.resolvers) if account else ()
    if not servers and config.name_server:
        servers = (config.name_server,)
    return Vantage(servers, config.name_server_port)


class View:
    """Within one event loop only."""

    def __init__(self, lookups: int = LOOKUPS) -> None:
        """``lookups`` of aliases and zone are made, before they count as failed."""
        self._lookups = lookups
        self._resolving: dict[tuple[Address, ...], Resolving] = {}
        self._silences = Silences()  # of name servers, by their addresses
        self._questions = asyncio.Semaphore(QUESTIONS)

    async def place(self, name: str, vantage: Vantage) -> tuple[str, str]:
        """Where its aliases end, and the zone which that is in.

        Raises:
            ChallengeError: it leads nowhere, or that cannot be known now.
        """

        async def look() -> tuple[str, str]:
            resolving = self._resolver(vantage)
            target = await resolving.follow(name)
            try:
                return target, await resolving.zone(target)
            except ChallengeError as error:
                if target == name:
                    raise
                raise ChallengeError(
                    f"{name} leads nowhere",
                    f"it is an alias of {target}: {error}",
                    "correct the CNAME record",
                ) from error

        return await _patiently(lambda: self._turn(look()), name, self._lookups)

    async def name_servers(self, zone: str, vantage: Vantage) -> tuple[NameServer, ...]:
        """Those of a zone.

        Raises:
            ChallengeError: who they are is not known.
        """
        resolving = self._resolver(vantage)
        return await _patiently(
            lambda: self._turn(resolving.name_servers(zone)), zone, self._lookups
        )

    async def wait_for(
        self,
        wanted: Wanted,
        kind: Kind,
        vantage: Vantage,
        until: float,
        tell: Callable[[str], None],
    ) -> None:
        """Return once the zone's name servers have it. ``until`` is by the loop's clock.

        Raises:
            ChallengeError: they have not in time, or cannot be known.
        """
        servers = await self.name_servers(wanted.zone, vantage)
        await wait_for(wanted, servers, vantage.port, kind, until, tell, self._turn, self._silences)

    async def values(self, name: str, vantage: Vantage) -> dict[str, Collection[str] | None]:
        """The TXT values of a name, by each of its name servers' addresses; None: no answer.

        Raises:
            ChallengeError: who they are is not known.
        """
        target, zone = await self.place(name, vantage)
        servers = await self.name_servers(zone, vantage)
        places = [(server.name, address) for server in servers for address in server.addresses]
        found = await asyncio.gather(
            *(self._turn(values_at(address, vantage.port, target)) for _, address in places)
        )
        return dict(zip(map(" at ".join, places), found, strict=True))

    async def lasting(
        self,
        certificate: str,
        host: str,
        account: str,
        issuers: Collection[str],
        vantage: Vantage,
        now: datetime,
        *,
        wildcard: bool,
    ) -> None:
        """Whether the operator's record of dns-persist-01 is at all name servers of the name.

        Raises:
            ChallengeError: it is not.
        """
        name = lasting_name(host)
        target, zone = await self.place(name, vantage)

        def good(values: Collection[str]) -> bool:
            return any(
                lasting_allows(value, issuers, account, now, wildcard=wildcard) for value in values
            )

        try:
            until = asyncio.get_running_loop().time()  # one look: nobody is about to publish it
            await self.wait_for(Wanted(zone, target, good), "all", vantage, until, lambda _: None)
        except ChallengeError as error:
            raise ChallengeError(
                f"no record at {name} allows this account to have it certified",
                error.why,
                f"publish what `certd dns persist {certificate}` prints",
            ) from error

    def _resolver(self, vantage: Vantage) -> Resolving:
        servers = vantage.resolvers
        if servers not in self._resolving:
            self._resolving[servers] = Resolving(servers)
        return self._resolving[servers]

    async def _turn(self, question: Awaitable[T]) -> T:
        async with self._questions:
            return await question


async def _patiently(look: Callable[[], Awaitable[T]], name: str, lookups: int) -> T:
    """Some times, for a resolver may be slow the first time."""
    for left in range(lookups - 1, -1, -1):
        try:
            return await look()
        except Unresolved as error:
            if not left:
                raise ChallengeError(
                    f"where {name} belongs is not known",
                    str(error),
                    "see whether its zone is served, and by whom; the DNS server that is asked "
                    "is resolver in [certd], or resolvers in the [dns] table",
                ) from error
            await asyncio.sleep(PAUSE)
    raise AssertionError  # pragma: no cover - the last one has returned or raised
