"""One change at a DNS provider: in turn, within its rate, and again when it may yet succeed."""

from __future__ import annotations

import asyncio
import copy
import logging
import secrets
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from certd.budget import Need
from certd.challenges.background import in_thread
from certd.config import DNSSettings
from certd.errors import CertdError, ProviderBusy, ProviderDenied, ProviderError, StoreError
from certd.model import TxtRecord
from certd.store import Store
from certd.store.locks import FileLock

log = logging.getLogger(__name__)

T = TypeVar("T")
Change = Literal["add", "remove"]

AT_ONCE = 8  # changes under way at one account
FIRST, LONGEST = 1.0, 60.0  # seconds before the same is tried again, where nothing is said
LOCKS = 256  # files per provider: what shares one waits for each other, so few should
LEAST = 1.0  # seconds that a call has, however late it is
ZONES_AGE = 300.0  # seconds for which an account's zones are remembered


class Changing:
    """Of all accounts, for one process. Within one event loop only."""

    def __init__(self, store: Store, locks: Path, clock: Callable[[], datetime]) -> None:
        """``locks`` is a folder that all certds on this state share."""
        self._store = store
        self._locks = locks
        self._clock = clock
        self._me = secrets.token_hex(8)  # who holds a lock
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._paces: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._places: dict[Path, asyncio.Lock] = {}
        self._waiting: dict[Path, int] = defaultdict(int)
        self._zones: dict[str, tuple[str, float, asyncio.Future[Sequence[str]]]] = {}

    async def change(
        self, what: Change, account: DNSSettings, record: TxtRecord, seconds: float
    ) -> None:
        """Passing failures are tried again for so many seconds from the first try.

        Raises:
            ProviderError: it could not be done; the text names the account.
        """
        whole = getattr(account.plugin, "exclusive", "name") == "zone"
        number = zlib.crc32((record.zone if whole else record.name).encode()) % LOCKS
        # Of the provider, not the table: two tables may be for the same zone.
        place = self._locks / f"{account.provider}-{number}.lock"
        lock = self._places.setdefault(place, asyncio.Lock())
        self._waiting[place] += 1
        try:
            async with lock:
                await self._again(
                    account, lambda: self._locked(what, account, record, place), seconds
                )
        finally:
            self._waiting[place] -= 1
            if not self._waiting[place]:
                del self._places[place], self._waiting[place]

    async def zones(self, account: DNSSettings) -> Sequence[str]:
        """Those of the account, where it can tell them; else none. Raises as ``change``."""
        listed = getattr(account.plugin, "zones", None)
        if not callable(listed):
            return ()
        # One question for all who want to know it, and one wait.
        time = asyncio.get_running_loop().time()
        known = self._zones.get(account.name)
        if known is None or known[0] != account.digest or time - known[1] >= ZONES_AGE:
            asked = asyncio.ensure_future(self._zones_of(account, listed))
            known = self._zones[account.name] = (account.digest, time, asked)
        try:
            return await asyncio.shield(known[2])
        except CertdError as error:
            raise copy.copy(error) from None  # to each its own: who gets it may add to it

    async def _zones_of(
        self, account: DNSSettings, listed: Callable[[], Sequence[str]]
    ) -> Sequence[str]:
        try:
            return await self._again(account, lambda: sorted(map(str, listed())), account.timeout)
        except CertdError:
            self.forget_zones(account)
            raise

    async def check_name(self, account: DNSSettings, name: str) -> None:
        """Whether it may write this name at all; raises as ``change``."""
        own = getattr(account.plugin, "names", None)
        if not callable(own):
            return
        names = await self._again(account, lambda: sorted(map(str, own())), account.timeout)
        if name not in names:
            shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
            raise ProviderError(
                f"[dns.{account.name}] cannot write {name}",
                f"it can write {shown or 'no name'} only",
                f"let {name} be an alias (CNAME) of one of these",
            )

    async def room(self, name: str, account: DNSSettings, record: TxtRecord) -> None:
        """Wait until there is room for another value; raises as ``change``."""
        most = getattr(account.plugin, "most_values", None)
        if most is None:
            return
        zone = getattr(account.plugin, "exclusive", "name") == "zone"
        loop, records = asyncio.get_running_loop(), self._store.records
        until = loop.time() + account.timeout
        while True:
            others, own = await in_thread(
                lambda: records.before(name, account.name, record, zone=zone), "dns-db"
            )
            going = all(one.unwanted for one in others)  # so that it is this one's turn
            if going and len(others) + len(own) < most:
                return
            if loop.time() >= until or len(own) >= most:  # its own do not go before it is done
                there = (others or own)[0].lineage
                raise ProviderError(
                    f"[dns.{account.name}] has no room for another value at {record.name}",
                    f"it has room for {most}, and a challenge of {there} is there",
                    "let each of the names have a certificate, or an alias, of its own",
                )
            await asyncio.sleep(FIRST)

    def forget_zones(self, account: DNSSettings) -> None:
        """One was looked for in vain: it may have been made since."""
        self._zones.pop(account.name, None)

    async def settled(self, account: DNSSettings, record: TxtRecord) -> bool:
        """Whether the provider says that its name servers have it; True where it says nothing."""
        ask = getattr(account.plugin, "settled", None)
        if not callable(ask):
            return True
        return bool(await self._again(account, lambda: ask(record), account.timeout))

    async def _again(self, account: DNSSettings, work: Callable[[], T], seconds: float) -> T:
        loop, tries = asyncio.get_running_loop(), 0
        turn = self._turns.setdefault(account.name, asyncio.Semaphore(AT_ONCE))
        until: float | None = None
        while True:
            await self._pace(account)
            async with turn:
                # Whoever waits for its turn, or for the rate, is not late.
                until = until or loop.time() + seconds
                try:
                    async with asyncio.timeout_at(max(until, loop.time() + LEAST)):
                        return await in_thread(lambda: _own(account, work), f"dns-{account.name}")
                except ProviderBusy as error:
                    busy = error
                except TimeoutError:
                    raise ProviderError(
                        f"[dns.{account.name}] does not come to an end",
                        f"it was waited for {seconds:.0f} seconds",
                        "see what it does; others are asked meanwhile",
                    ) from None
            tries += 1
            wait = min(FIRST * (1 << min(tries - 1, 6)), LONGEST)
            wait = wait if busy.retry_after is None else max(busy.retry_after, FIRST)
            if loop.time() + wait > until:
                raise busy
            log.info("[dns.%s] again in %.0f s: %s", account.name, wait, busy)
            await asyncio.sleep(wait)

    async def _pace(self, account: DNSSettings) -> None:
        """Wait for a token of the account's bucket, first come, first served."""
        if account.rate is None:
            return
        need = {f"dns {account.name}": Need(account.rate, "changes")}
        async with self._paces[account.name]:
            while lack := await in_thread(
                lambda: self._store.budgets.take(need, 0.0, self._clock()), "dns-budget"
            ):
                wait = (lack[1] - self._clock()).total_seconds()
                await asyncio.sleep(max(wait, 0.01))

    def _locked(self, what: Change, account: DNSSettings, record: TxtRecord, place: Path) -> None:
        """With nobody else at it, in any process: many read a whole set and write it back."""
        lock = FileLock(place)
        try:
            self._locks.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self._locks}", error.strerror or "") from None
        if not lock.try_acquire(self._me):
            why = "is being asked by another certd"
            if lock.holder() == self._me:  # a thread that nobody waits for any more
                why = "has not come to an end with an earlier call"
            raise ProviderBusy(why, retry_after=FIRST)
        try:
            # By now somebody else may want it, or, after long, nobody any more.
            if (what == "add") is not self._store.records.wanted(account.name, record):
                return
            if what == "add":
                account.plugin.add_txt(record)
            else:
                account.plugin.remove_txt(record)
        finally:
            lock.release()


def _own(account: DNSSettings, work: Callable[[], T]) -> T:
    """Whatever a provider raises, as an error of the table by which it was asked."""
    name = f"[dns.{account.name}]"
    try:
        return work()
    except ProviderBusy as error:
        raise ProviderBusy(
            f"{name} {error.what}", error.why, error.next, error.retry_after
        ) from None
    except ProviderDenied as error:
        denied = ProviderDenied(f"{name} {error.what}", error.why, error.next, error.zone)
        denied.account = account.name
        raise denied from None
    except StoreError:
        raise
    except CertdError as error:
        raise ProviderError(f"{name} {error.what}", error.why, error.next) from None
    except Exception as error:  # a stranger's code: its text may hold anything
        log.warning("%s failed with %s", name, type(error).__name__, exc_info=log.isEnabledFor(10))
        raise ProviderError(
            f"{name} its provider, {account.provider}, made a mistake",
            type(error).__name__,
            "tell the author of the provider",
        ) from None
