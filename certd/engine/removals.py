"""Records that nobody waits for any more: taken out of their zones, sooner or later."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import datetime

from certd import due
from certd.challenges.background import Background, in_thread
from certd.challenges.view import View, vantage
from certd.config import Config
from certd.engine.changing import Changing
from certd.errors import CertdError, ProviderBusy, ProviderDenied, ProviderError, StoreError
from certd.failpoint import failpoint
from certd.known import Failure
from certd.store import Store
from certd.store.records import Kept

log = logging.getLogger(__name__)

REMOVING = 120.0  # seconds for one try


class Removals:
    """Of one process, in the event loop in which records are published."""

    def __init__(
        self,
        config: Config,
        store: Store,
        background: Background,
        changing: Changing,
        view: View,
        writes: asyncio.Semaphore,
        clock: Callable[[], datetime],
    ) -> None:
        """``writes`` are those to the journal that may be under way at once."""
        self._config = config
        self._store = store
        self._background = background
        self._changing = changing
        self._view = view
        self._writes = writes
        self._clock = clock
        self._removing: set[tuple[str, str, str]] = set()
        self._sweeps: set[Future[None]] = set()

    def follow(self, config: Config) -> None:
        """From now on, these are the accounts."""
        self._config = config

    def sweep(self) -> None:
        """Begin to remove what is due to be removed, whoever published it."""
        self.begin(self._store.records.to_remove(self._clock()))

    def begin(self, some: list[Kept]) -> None:
        """Begin with these, but for what is under way."""
        todo = [one for one in some if _key(one) not in self._removing]
        if todo:
            future = self._background.run(lambda: self._remove_all(todo))
            self._sweeps.add(future)
            future.add_done_callback(self._swept)

    def _swept(self, future: Future[None]) -> None:
        self._sweeps.discard(future)
        if not future.cancelled() and (error := future.exception()):
            log.error("records cannot be removed from DNS: %s", error)

    def finish(self, seconds: float) -> bool:
        """Wait for the removals under way; False when some still were after ``seconds``."""
        until = time.monotonic() + seconds
        while sweeps := list(self._sweeps):
            left = until - time.monotonic()
            if left <= 0:
                return False
            wait(sweeps, left)
        return True

    async def _remove_all(self, some: list[Kept]) -> None:
        await asyncio.gather(*map(self._remove, some))

    async def _remove(self, kept: Kept) -> None:
        if _key(kept) in self._removing:
            return
        self._removing.add(_key(kept))
        try:
            failed = await self._tried_to_remove(kept)
            async with self._writes:
                await in_thread(lambda: self._settle(kept, failed), "dns-journal")
        finally:
            self._removing.discard(_key(kept))

    async def _tried_to_remove(self, kept: Kept) -> CertdError | None:
        try:
            account = self._config.dns.get(kept.account)
            if account is not None:
                await self._changing.change("remove", account, kept.record, REMOVING)
            else:
                await self._removed_by_hand(kept)
            failpoint("dns: record is removed")
            return None
        except StoreError:
            raise
        except CertdError as error:
            return None if await self._gone_at_last(kept) else error

    async def _gone_at_last(self, kept: Kept) -> bool:
        """What was refused for a day may never be possible again: its zone has moved, say."""
        if kept.failures < len(due.BACKOFF):
            return False  # who has just written it may not show it yet
        at = vantage(self._config, self._config.dns.get(kept.account))
        try:
            found = (await self._view.values(kept.record.name, at)).values()
        except CertdError:
            return False
        return bool(found) and not any(
            values is None or kept.record.value in values for values in found
        )

    async def _removed_by_hand(self, kept: Kept) -> None:
        """Raises ProviderError unless no name server has it any more."""
        found = await self._view.values(kept.record.name, vantage(self._config))
        answers = [values for values in found.values() if values is not None]
        if not answers or any(kept.record.value in values for values in answers):
            raise ProviderError(
                f"{kept.record.name} cannot be removed",
                f"there is no table [dns.{kept.account}] any more, by which it was written",
                "add it again, or remove the record by hand: certd looks whether it is gone",
            )

    def _settle(self, kept: Kept, failed: CertdError | None) -> None:
        if failed is None:
            self._store.records.withdraw(kept.account, kept.record)
        else:
            self._later(kept, failed)

    def _later(self, kept: Kept, error: CertdError) -> None:
        """What is left over does no harm: it is removed when that is possible."""
        now = self._clock()
        denied = isinstance(error, ProviderDenied)
        pause = due.DAY if denied else due.backoff(kept.failures + 1, None, 0.0)
        if isinstance(error, ProviderBusy):
            pause = max(pause, due.as_asked(error.retry_after))
        failure = Failure(error.what, error.why, error.next, now)
        again = kept.failure is not None and kept.failure.what == error.what
        text = f"{kept.record.name} is still in its zone (next attempt {now + pause:%F %TZ}): "
        log.log(logging.INFO if again else logging.WARNING, "%s%s", text, error)
        self._store.records.later(kept, failure, now + pause)


def _key(kept: Kept) -> tuple[str, str, str]:
    return kept.account, kept.record.name, kept.record.value
