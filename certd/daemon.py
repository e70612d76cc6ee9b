"""The long-running service: start, ticks, reload, watchdog, stop."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
from pathlib import Path

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from certd import config as configuration
from certd import systemd
from certd.config import Config
from certd.engine.node import DUE_TICK, TIDY_TICK, Node, now
from certd.errors import CertdError, StoreError
from certd.store import FileLock, Store
from certd.store.files import daemon_lock

log = logging.getLogger(__name__)

STALE = 60.0  # seconds without a finished tick after which the watchdog is no longer fed


class Daemon:
    """Runs until SIGTERM or SIGINT; SIGHUP rereads the configuration."""

    def __init__(self, path: Path) -> None:
        """``path``: the configuration file, read again at each SIGHUP."""
        self._path = path
        # A handler would not do: it runs in the main thread, which nothing wakes when the signal
        # came to another thread, or just before this one fell asleep.
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        self._ticked = time.monotonic()

    def run(self) -> int:
        """Returns the exit status.

        Raises:
            CertdError: it cannot start; the text says why.
        """
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # what comes before READY is done after it
        config = configuration.load(self._path)
        store = Store.open(config.state, config.seal)
        lock = FileLock(daemon_lock(config.state))
        try:
            if not lock.try_acquire(f"pid {os.getpid()}"):
                raise StoreError(
                    "a certd daemon already runs on this state folder",
                    f"{lock.path} is held by {lock.holder() or 'another process'}",
                    "stop that one first; `certd renew` works beside it",
                )
            return self._serve(config, store)
        finally:
            store.close()
            lock.release()

    def _serve(self, config: Config, store: Store) -> int:
        self._node = Node(config, store, _say)
        store.lineages.take_over(config.certificates, config.digest, config.table_digests)
        self._node.listen(systemd.listen_sockets())
        self._node.distribute()
        gc.freeze()  # modules and configuration stay: the collector need not look at them again
        self._node.start()
        scheduler = self._scheduler()
        scheduler.start()
        self._node.keep_watching()
        systemd.notify("READY=1", self._status())
        log.info("certd %s: watching %d certificates", os.getpid(), len(config.certificates))
        while (number := self._next_signal()) == signal.SIGHUP:
            self._reload()
        systemd.notify("STOPPING=1")
        log.info("stopping: %s", number.name)
        scheduler.shutdown(wait=False)
        if not self._node.stop():
            log.warning("stopped in the middle of something: it goes on at the next start")
        return 0

    def _next_signal(self) -> signal.Signals:
        return signal.Signals(self._signals.recv(1)[0])

    def _scheduler(self) -> BackgroundScheduler:
        """Ticks only: what is due is in the store, not in a scheduler's jobs. None of them
        waits for anybody, for the interpreter does not end before they do.
        """
        scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        scheduler.add_job(self._take_due, "interval", seconds=DUE_TICK, next_run_time=now())
        scheduler.add_job(self._node.tidy, "interval", seconds=TIDY_TICK)
        watchdog = systemd.watchdog_interval()
        if watchdog is not None:
            scheduler.add_job(self._feed_watchdog, "interval", seconds=watchdog)
        return scheduler

    def _take_due(self) -> None:
        try:
            self._node.take_due()
            self._ticked = time.monotonic()
        except CertdError as error:
            # Degraded, not dead: the next tick tries again, and the watchdog starves.
            log.error("cannot look what is due: %s", error)

    def _feed_watchdog(self) -> None:
        if self._node.engine.alive() and time.monotonic() - self._ticked < STALE:
            systemd.notify("WATCHDOG=1", self._status())
        else:
            log.critical("the engine stands still: leaving it to the watchdog")

    def _reload(self) -> None:
        systemd.notify("RELOADING=1")
        try:
            config = configuration.load(self._path)
            if config.state != self._node.config.state:
                raise CertdError("[certd] state has changed", "", "restart certd to move it")
            if config.seal != self._node.config.seal:
                raise CertdError("[certd] seal has changed", "", "restart certd to seal with it")
            self._node.follow(config)
            self._node.store.lineages.ask_all(now())
            log.info("configuration reread: %d certificates", len(config.certificates))
        except CertdError as error:
            log.error("the configuration was not taken over, the old one stays: %s", error)
        systemd.notify("READY=1", self._status())

    def _status(self) -> str:
        count = len(self._node.config.certificates)
        return f"STATUS={count} certificates, {self._node.engine.in_flight()} in progress"


def _say(name: str, text: str) -> None:
    log.info("%s: %s", name, text)
