"""The records of DNS challenges: written down, published, waited for, and always taken away again.

All of it goes on in one event loop; a thread is held only while a provider is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from datetime import datetime, timedelta

from certd import due
from certd.ca.resources import CAChallenge
from certd.challenges.background import Background, in_thread
from certd.challenges.dns01 import record_name, record_value
from certd.challenges.propagation import Wanted
from certd.challenges.view import Vantage, View, vantage
from certd.config import Config, DNSSettings
from certd.engine.changing import Change, Changing
from certd.errors import CertdError, ChallengeError, ProviderDenied, ProviderError
from certd.failpoint import failpoint
from certd.model import Failure, Identifier, TxtRecord
from certd.ordering import Say
from certd.preflight import unattended
from certd.store import Store
from certd.store.records import Kept

log = logging.getLogger(__name__)

REMOVING = 120.0  # seconds for one try of a removal
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
        self._config = config
        self._store = store
        self._say = say
        self._hurry = hurry
        self._clock = clock
        self._background = Background("dns")
        self._changing = Changing(store, config.state / "dns", clock)
        self._view = View()
        self._removing: set[tuple[str, str, str]] = set()
        self._said: dict[str, float] = {}
        self._sweeps: set[Future[None]] = set()

    def follow(self, config: Config) -> None:
        """From now on, these are the accounts."""
        self._config = config

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
        loop = asyncio.get_running_loop()
        until = loop.time() + account.timeout
        wanted = record_name(host.value, challenge.type, challenge.account)
        target, cut = await self._view.place(wanted, vantage(config, account))
        if not account.may_touch(target):
            raise ProviderError(
                f"[dns.{account.name}] must not write {target}",
                f"its zones are {', '.join(account.zones)}",
                f"name another table for {host} by dns, or add the zone there",
            )
        if account.by_hand and not self._attended:  # it goes on with what a command began
            raise unattended(name, account.name)
        await self._changing.check_name(account, target, until)
        zone = await self._zone(account, target, cut, until)
        value = record_value(challenge.key_authorization.reveal())
        record = TxtRecord(zone, target, value, account.ttl)
        since = await in_thread(
            lambda: self._store.records.publish(name, account.name, record, self._clock()),
            "dns-journal",
        )
        failpoint("dns: record is kept")
        # From the beginning, also where another process began.
        until -= min(max((self._clock() - since).total_seconds(), 0.0), account.timeout / 2)
        await self._changing.room(name, account, record, until)
        await self._changing.change("add", account, record, until)
        failpoint("dns: record is written")
        await self._seen(name, account, record, cut, config, until)

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
        while not await self._changing.settled(account, record, until):
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

    async def _zone(self, account: DNSSettings, target: str, cut: str, until: float) -> str:
        """The longest that the account has; where it cannot tell, what DNS says."""
        for _ in range(2):
            zones = await self._changing.zones(account, until)
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
        self, host: str, account: str, issuers: Collection[str], *, wildcard: bool, config: Config
    ) -> Future[None]:
        """Look whether the operator's record of dns-persist-01 is there for this name.

        The future's exception is a ChallengeError, if it is not.
        """
        at, now = vantage(config), self._clock()
        return self._background.run(
            lambda: self._view.lasting(host, account, issuers, at, now, wildcard=wildcard)
        )

    def change(self, what: Change, account: DNSSettings, record: TxtRecord) -> Future[None]:
        """One change, of what is in no journal. The future's exception is a ProviderError."""

        async def run() -> None:
            until = asyncio.get_running_loop().time() + account.timeout
            await self._changing.change(what, account, record, until)

        return self._background.run(run)

    def values(self, name: str, at: Vantage) -> Future[list[Collection[str] | None]]:
        """The TXT values of a name, by each address of its name servers; None: no answer."""
        return self._background.run(lambda: self._view.values(name, at))

    def place(self, name: str, at: Vantage) -> Future[tuple[str, str]]:
        """Where its aliases end, and the zone which that is in."""
        return self._background.run(lambda: self._view.place(name, at))

    # -- removing --------------------------------------------------------------------------

    def give_up(self, name: str) -> None:
        """Nobody waits for the records of this certificate any more: remove them."""
        self._said.pop(name, None)
        if self._store.records.of(name):
            self._store.records.give_up(name)
            failpoint("dns: records are given up")
            self.sweep()

    def sweep(self) -> None:
        """Begin to remove what is due to be removed, whoever published it."""
        due_now = [
            kept
            for kept in self._store.records.to_remove(self._clock())
            if (kept.account, kept.record.name, kept.record.value) not in self._removing
        ]
        if due_now:
            future = self._background.run(lambda: self._remove_all(due_now))
            self._sweeps.add(future)
            future.add_done_callback(self._sweeps.discard)

    def finish(self, seconds: float) -> bool:
        """Wait for the removals under way; False when some still were after ``seconds``."""
        until = time.monotonic() + seconds
        while sweeps := list(self._sweeps):
            left = until - time.monotonic()
            if left <= 0:
                return False
            wait(sweeps, left)
        return True

    def stop(self) -> None:
        """Give up what is under way: the journal has it."""
        self._background.stop()

    async def _remove_all(self, some: list[Kept]) -> None:
        await asyncio.gather(*map(self._remove, some))

    async def _remove(self, kept: Kept) -> None:
        key = (kept.account, kept.record.name, kept.record.value)
        if key in self._removing:
            return
        self._removing.add(key)
        try:
            account = self._config.dns.get(kept.account)
            if account is None:
                raise ProviderError(
                    f"{kept.record.name} cannot be removed",
                    f"there is no table [dns.{kept.account}] any more, by which it was written",
                    "add it again, or remove the record by hand and wait",
                )
            records = self._store.records
            if not await in_thread(lambda: records.wanted(kept.account, kept.record), "dns-db"):
                until = asyncio.get_running_loop().time() + REMOVING
                await self._changing.change("remove", account, kept.record, until)
                failpoint("dns: record is removed")
            await in_thread(lambda: records.withdraw(kept.account, kept.record), "dns-db")
        except CertdError as error:
            failed = error
            await in_thread(lambda: self._later(kept, failed), "dns-db")
        finally:
            self._removing.discard(key)

    def _later(self, kept: Kept, error: CertdError) -> None:
        """What is left over does no harm: it is removed when that is possible."""
        now = self._clock()
        denied = isinstance(error, ProviderDenied)
        pause = timedelta(days=1) if denied else due.backoff(kept.failures + 1, None, 0.0)
        failure = Failure(error.what, error.why, error.next, now)
        again = kept.failure is not None and kept.failure.what == error.what
        text = f"{kept.record.name} is still in its zone (next attempt {now + pause:%F %TZ}): "
        log.log(logging.INFO if again else logging.WARNING, "%s%s", text, error)
        self._store.records.later(kept, failure, now + pause)


def _account(name: str, host: Identifier, config: Config) -> DNSSettings:
    spec = config.certificates.get(name)
    table = spec.dns_for(host.value) if spec else None
    if table is None or table not in config.dns:
        raise ProviderError(
            f"nobody writes the records of {host}", "", f"name a table by dns for {name}"
        )
    return config.dns[table]
