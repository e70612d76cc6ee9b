"""certd inside another program: a Node that one thread keeps going, and its new versions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from certd.config import Config
from certd.engine.node import TIDY_TICK, WATCH_TICK, Node, now
from certd.errors import CertdError
from certd.model import Bundle
from certd.standing import CertificateDocument, Entry
from certd.store import Store

log = logging.getLogger(__name__)

# Seconds between looks at the store: for what is due, and for versions, which another
# certd on the same store may have brought.
LOOK = 0.5
LISTS = 2.0  # seconds for lists of what is revoked, before the next look


class Resident:
    """``start`` and ``stop`` are for once each; the rest is for any thread in between."""

    def __init__(self, config: Config, changed: Callable[[str, int, bool], None]) -> None:
        """``changed(name, number, new)`` is told of each version that becomes current, on the
        thread here; and before ``start`` returns, of those that were so: they are not new.

        Raises:
            StoreError: the state folder cannot be used.
        """
        self._changed = changed
        self._store = Store.open(config.state, config.seal)
        self._node = Node(config, self._store, _say)
        self._seen: dict[str, int] = {}
        self._followed: str | None = None  # digest of the configuration of which it was said
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="certd", daemon=True)

    @property
    def config(self) -> Config:
        return self._node.config

    def start(self) -> None:
        config = self._node.config
        store = self._store
        store.lineages.take_over(config.certificates, config.digest, config.table_digests)
        try:
            self._node.listen()
        except CertdError as error:
            # A program has more to do than this, and most days nothing is to be answered:
            # it is tried again when there is, and is the certificate's failure then.
            log.warning("challenges cannot be answered: %s", error)
        self._node.start()
        self._follow_versions(new=False)
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new, and end what runs; what does not end in 8 s is resumed by the
        next start.
        """
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        try:
            if not self._node.stop():
                log.warning("stopped in the middle of something: it goes on at the next start")
        finally:
            self._store.close()

    def follow(self, config: Config) -> None:
        self._node.follow(config)
        self._wake.set()

    def bundle(self, name: str, number: int) -> Bundle:
        return self._store.lineages.bundle(name, number)

    def renew(self, names: list[str], *, force: bool) -> None:
        for name in names:
            self._store.lineages.retry_now(name, now(), force=force)
        self._wake.set()

    def status(self) -> dict[str, CertificateDocument]:
        at: datetime = now()
        found = (Entry.of(spec, lineage, at) for spec, lineage in self._store.lineages.all())
        return {entry.spec.name: entry.document() for entry in found}

    def _run(self) -> None:
        tidied = watched = time.monotonic()
        looks = True
        while not self._stopping:
            try:
                self._node.take_due()
                self._follow_versions(new=True)
                if self._stopping:  # by what was told of a version
                    return
                if time.monotonic() - tidied >= TIDY_TICK:
                    self._node.tidy()
                    self._notice_another_configuration()
                    tidied = time.monotonic()
                if time.monotonic() - watched >= WATCH_TICK:
                    self._node.watch(LISTS)
                    watched = time.monotonic()
                looks = True
            except CertdError as error:
                # Degraded, not dead: the next look tries again. Said once, not twice a second.
                if looks:
                    log.error("cannot look what is due: %s", error)
                looks = False
            except Exception:  # the boundary of a job: the next look tries again
                log.exception("this is a bug in certd, please report it")
            if not self._node.engine.alive():
                log.critical("the engine stands still: this is a bug in certd, please report it")
                return
            self._wake.wait(LOOK)
            self._wake.clear()

    def _follow_versions(self, *, new: bool) -> None:
        for name, number in self._store.versions.current().items():
            if self._seen.get(name) != number:
                self._changed(name, number, new)
                self._seen[name] = number  # what it raises is tried again

    def _notice_another_configuration(self) -> None:
        followed = self._store.lineages.configuration()
        if followed not in (self._followed, self.config.digest):
            log.warning(
                "another certd works in %s by another configuration, which holds for both: "
                "reload this one, or give it a state folder of its own",
                self.config.state,
            )
        self._followed = followed


def _say(name: str, text: str) -> None:
    log.info("%s: %s", name, text)
