"""The records of DNS challenges: written down, published, waited for, and always taken away again.

All of it goes on in one event loop; a thread is held only while a provider is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime

from certd.ca.resources import CAChallenge
from certd.challenges.background import Background, in_thread
from certd.challenges.dns01 import DNS_01, record_name, record_value
from certd.challenges.propagation import Wanted
from certd.challenges.view import Vantage, View, vantage
from certd.config import Config, DNSSettings
from certd.engine.changing import Change, Changing
from certd.engine.removals import Removals
from certd.errors import ChallengeError, ProviderError
from certd.failpoint import failpoint
from certd.model import DNSChallenge, Identifier, TxtRecord
from certd.ordering import Say
from certd.preflight import unattended
from certd.store import Store

log = logging.getLogger(__name__)

WRITES = 4  # to the journal at once
SAY = 10.0  # seconds between two words about the same wait


class Zones:
    """One process's part in its operator's zones."""

    def __init__(
        self,
        config: Config,
        store: Store,
        say: Say,
        hurry: Callable[[str], None],
        clock: Callable[[], datetime],
        *,
        attended: bool = False,
    ) -> None:
        """``hurry`` is told of each certificate of which a record is there, or cannot be.

        ``attended``: somebody is there to do things by hand.
        """
        self._attended = attended
        self._store = store
        self._say = say
        self._hurry = hurry
        self._clock = clock
        self._background = Background("dns")
        self._changing = Changing(store, config.state / "dns", clock)
        self._view = View()
        self._writes = asyncio.Semaphore(WRITES)
        self._said: dict[str, float] = {}
        self.removals = Removals(
            config, store, self._background, self._changing, self._view, self._writes, clock
        )

    def follow(self, config: Config) -> None:
        """From now on, these are the accounts."""
        self.removals.follow(config)

    # -- publishing ------------------------------------------------------------------------

    def publish(
        self, name: str, host: Identifier, challenge: CAChallenge, config: Config
    ) -> Future[None]:
        """Publish the record for this certificate's challenge; done when it is to be seen.

        The future's exception is a ChallengeError or a ProviderError, if that is in vain.
        """
        future = self._background.run(lambda: self._publish(name, host, challenge, config))
        future.add_done_callback(lambda _: self._hurry(name))
        return future

    async def _publish(
        self, name: str, host: Identifier, challenge: CAChallenge, config: Config
    ) -> None:
        account = _account(name, host, config)
        wanted = record_name(host.value, challenge.type, challenge.account)
        if account.by_hand and not self._attended:  # it goes on with what a command began
            raise unattended(name, account.name)
        record, cut = await self._placed(wanted, account, config)
        value = record_value(challenge.key_authorization.reveal())
        made_of = _made_of(host, challenge, account)
        record = replace(record, value=value, challenge=made_of)
        async with self._writes:
            since = await in_thread(
                lambda: self._store.records.publish(name, account.name, record, self._clock()),
                "dns-journal",
            )
        failpoint("dns: record is kept")
        await self._changing.room(name, account, record)
        await self._changing.change("add", account, record, account.timeout)
        failpoint("dns: record is written")
        # From the beginning, also where another process began; but not without a look.
        gone = min(max((self._clock() - since).total_seconds(), 0.0), account.timeout / 2)
        until = asyncio.get_running_loop().time() + account.timeout - gone
        await self._seen(name, account, record, cut, config, until)

    async def _placed(
        self, wanted: str, account: DNSSettings, config: Config
    ) -> tuple[TxtRecord, str]:
        """The record, without a value; and the zone that DNS has its name in."""
        target, cut = await self._view.place(wanted, vantage(config, account))
        if not account.may_touch(target):
            raise ProviderError(
                f"[dns.{account.name}] must not write {target}",
                f"its zones are {', '.join(account.zones)}",
                "name another table for it by dns, or add the zone there",
            )
        await self._changing.check_name(account, target)
        zone = await self._zone(account, target, cut)
        return TxtRecord(zone, target, "", account.ttl), cut

    async def _seen(
        self,
        name: str,
        account: DNSSettings,
        record: TxtRecord,
        cut: str,
        config: Config,
        until: float,
    ) -> None:
        loop, pause = asyncio.get_running_loop(), 0.5
        while not await self._changing.settled(account, record):
            if loop.time() > until:
                raise ChallengeError(
                    f"{record.name} is not to be seen in time, so the CA was not told to look",
                    f"[dns.{account.name}] has not brought it to its name servers",
                    "see the provider's state page, or wait longer by timeout",
                )
            self._tell(name, f"waiting for [dns.{account.name}] to publish {record.name}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 10.0)
        if account.propagation != "wait":
            await self._view.wait_for(
                Wanted.record(record, cut),
                account.propagation,
                vantage(config, account),
                until,
                lambda text: self._tell(name, text),
            )
        await asyncio.sleep(account.settle)

    async def _zone(self, account: DNSSettings, target: str, cut: str) -> str:
        """The longest that the account has; where it cannot tell, what DNS says."""
        for _ in range(2):
            zones = await self._changing.zones(account)
            having = [one for one in zones if target == one or target.endswith(f".{one}")]
            if having or not zones:
                return cut if cut in having else max(having, key=len, default=cut)
            self._changing.forget_zones(account)
        shown = ", ".join(zones[:5]) + (f" and {len(zones) - 5} more" if len(zones) > 5 else "")
        raise ProviderError(
            f"[dns.{account.name}] has no zone for {target}",
            f"DNS says that it is in {cut}; the account has {shown}",
            "name another table by dns, or let the account have that zone",
        )

    def _tell(self, name: str, text: str) -> None:
        """Not each of two hundred records at every look."""
        now = time.monotonic()
        if now - self._said.get(name, 0.0) >= SAY:
            self._said[name] = now
            self._say(name, text)

    # -- what others ask for ----------------------------------------------------------------

    def lasting(
        self,
        name: str,
        host: str,
        account: str,
        issuers: Collection[str],
        *,
        wildcard: bool,
        config: Config,
    ) -> Future[None]:
        """Look whether the operator's record of dns-persist-01 is there for this certificate's
        host. The future's exception is a ChallengeError, if it is not.
        """
        at, now = vantage(config), self._clock()
        future = self._background.run(
            lambda: self._view.lasting(name, host, account, issuers, at, now, wildcard=wildcard)
        )
        future.add_done_callback(lambda _: self._hurry(name))
        return future

    def change(
        self, what: Change, account: DNSSettings, record: TxtRecord, seconds: float
    ) -> Future[None]:
        """One change, of what is in the journal. The future's exception is a ProviderError."""
        return self._background.run(lambda: self._changing.change(what, account, record, seconds))

    def values(self, name: str, at: Vantage) -> Future[dict[str, Collection[str] | None]]:
        """The TXT values of a name, by each of its name servers; None: no answer."""
        return self._background.run(lambda: self._view.values(name, at))

    def place(
        self, name: str, account: DNSSettings, config: Config
    ) -> Future[tuple[TxtRecord, str]]:
        """The record of that name, without a value; and the zone that DNS has it in."""
        return self._background.run(lambda: self._placed(name, account, config))

    # -- removing --------------------------------------------------------------------------

    def give_up(self, name: str) -> None:
        """Nobody waits for the records of this certificate any more: remove them."""
        self._said.pop(name, None)
        if mine := self._store.records.of(name):
            self._store.records.give_up(name)
            failpoint("dns: records are given up")
            self.removals.begin(mine)

    def stop(self) -> None:
        """Give up what is under way: the journal has it."""
        self._background.stop()


def _made_of(host: Identifier, challenge: CAChallenge, account: DNSSettings) -> DNSChallenge | None:
    """For who makes name and value itself, and knows how for dns-01."""
    if not getattr(account.plugin, "wants_challenge", False) or challenge.type != DNS_01:
        return None
    return DNSChallenge(host.value.removeprefix("*."), challenge.key_authorization)


def _account(name: str, host: Identifier, config: Config) -> DNSSettings:
    spec = config.certificates.get(name)
    table = spec.dns_for(host.value) if spec else None
    if table is None or table not in config.dns:
        raise ProviderError(
            f"nobody writes the records of {host}", "", f"name a table by dns for {name}"
        )
    return config.dns[table]
