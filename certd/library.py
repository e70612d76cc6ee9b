"""certd inside another Python program: ``from certd import Certd``.

What needs the rest of certd imports it when it is called, so that naming the class costs
a program nothing. docs/library.md shows it in servers.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from certd.config import Config
    from certd.engine.resident import Resident
    from certd.live import LiveContext
    from certd.standing import CertificateDocument

log = logging.getLogger(__name__)


class Certd:
    """A certd that runs in threads of this process, from ``start`` to ``stop``.

    It does what the daemon does, and beside one with the same file it is a second worker
    on the same certificates: nothing is issued twice. It takes no signals, sets up no
    logging (its loggers are ``certd.…``) and ends no process. Any thread may call any
    method. Start it after a fork, not before: threads do not survive one.
    """

    def __init__(self, config: Path | str | Mapping[str, Any] | Config) -> None:
        """``config``: a configuration file, or what would be in one (tables by name;
        paths are relative to the working directory then), or a Config that was read.
        """
        self._source = config
        self._life = threading.Lock()  # held by whoever starts, stops or reloads
        self._changed = threading.Condition()  # guards all below
        self._resident: Resident | None = None
        self._pid = 0  # of the process that started it
        self._versions: dict[str, int] = {}  # the current ones
        self._contexts: weakref.WeakSet[LiveContext] = weakref.WeakSet()
        self._callbacks: list[Callable[[str, int], object]] = []

    def start(self) -> Self:
        """Begin; returns itself, as soon as what is in the store can be served.

        Raises:
            certd.errors.BadConfig: the configuration is wrong.
            certd.errors.StoreError: the state folder cannot be used.
        """
        from certd.engine.resident import Resident

        with self._life:
            if self._resident is not None:
                self._running()
                return self
            resident = Resident(self._read(self._source), self._new_version)
            with self._changed:
                self._resident, self._pid = resident, os.getpid()
            try:
                resident.start()
            except BaseException:
                self._taken_out()
                resident.stop()
                raise
        return self

    def stop(self) -> None:
        """End; contexts that were given out go on with what they have.

        Waits for what is in the middle of something, for 8 s at most; an order under way goes
        on at the next start, here or in another certd. Twice is no error.
        """
        with self._life:
            resident = self._taken_out()
        # Outside of the lock, which a callback that stops it too may be waiting for.
        if resident is not None:
            resident.stop()

    def _taken_out(self) -> Resident | None:
        """What is to be stopped; None: nothing, or nothing of this process."""
        with self._changed:
            resident, self._resident = self._resident, None
            self._versions = {}
            self._changed.notify_all()
        return resident if self._pid == os.getpid() else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def ssl_context(
        self, *names: str, minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLContext:
        """A context for a server, which shows the newest version of these certificates.

        With several, the one that covers the name the client asks for (SNI), else the
        first. A renewal changes what new connections are shown, and touches none that is
        there. While there is no certificate yet, handshakes fail: see ``wait``. Of a pair
        (``key`` of two kinds) it has both, and each client is shown the one that it takes.

        Raises:
            certd.errors.ConfigError: no certificate has that name, or its key is not here (csr).
            certd.errors.CertdError: it does not run.
        """
        from certd.errors import ConfigError
        from certd.live import LiveContext

        if not names:
            raise ConfigError("a context needs a certificate", "", 'ssl_context("NAME")')
        both, pairs = self._served(names)
        context = LiveContext(both, minimum_version, pairs)
        with self._changed:  # no version can come in between
            resident = self._running()
            for name in both:
                if name in self._versions:
                    bundle = resident.bundle(name, self._versions[name])
                    if not bundle.keyless:  # else another is on its way
                        context.show(bundle)
            self._contexts.add(context)
        return context

    def _served(self, names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        """These with the others of their pairs; and of each such other, whose it is."""
        from certd.errors import ConfigError

        found, pairs = self._known(names), dict[str, str]()
        for name in found:
            spec = self._running().config.certificates[name]
            if spec.csr:
                raise ConfigError(
                    f"{name} cannot be served from here",
                    "its signing request is yours (csr): certd has never seen its key",
                    "load what a disk target has beside your key, or leave csr out",
                )
            if spec.sibling and name not in pairs:
                pairs[spec.sibling] = name
        return found, pairs

    def wait(self, name: str, timeout: float | None = None, *, newer_than: int = 0) -> int:
        """Wait for a version of this certificate above ``newer_than``; returns its number.

        ``timeout`` is in seconds; None waits until it is there.

        Raises:
            certd.errors.ConfigError: no certificate has that name, or not any more.
            certd.errors.CertdError: the time is over, with what failed last; or it does not
                run, or not any more.
        """
        from certd.errors import CertdError, ConfigError

        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                self._known([name])  # each time: it may be stopped or reloaded meanwhile
                if (version := self._versions.get(name, 0)) > newer_than:
                    return version
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
        what = f"no new version of {name}" if newer_than else f"no certificate {name}"
        entry = self.status().get(name)
        if entry is None:  # in the store there is one configuration only, the last one's
            why = "another certd works in the same state folder by another configuration"
            raise ConfigError(f"{name} is not wanted any more", why, "reload this one")
        failure = entry["last_error"]
        if failure is None:
            raise CertdError(f"{what} within {timeout} s", "nothing has failed", "wait longer")
        why = f"{failure['what']}: {failure['why']}"
        raise CertdError(f"{what} within {timeout} s", why, failure["next"])

    def subscribe(self, callback: Callable[[str, int], object]) -> Callable[[], None]:
        """Call ``callback(name, version)`` for each version that becomes current from now on.

        It is called on a thread of certd's, one at a time, when contexts show the version
        already; what it raises is logged. It may call anything but ``wait``, and what is given
        back to hear no more.
        """
        with self._changed:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._changed:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def status(self) -> dict[str, CertificateDocument]:
        """Each certificate by name, as ``certd status --json`` shows it."""
        return self._running().status()

    def renew(self, *names: str, force: bool = False) -> None:
        """Try these again now, or all, whatever their back-off; returns at once.

        ``force`` renews what is not due too, and needs names.

        Raises:
            certd.errors.ConfigError: no certificate has that name.
        """
        from certd.errors import ConfigError

        if force and not names:
            why = "renewing everything at once would spend the CA's limits"
            raise ConfigError("force needs names", why, 'renew("NAME", force=True)')
        self._running().renew(self._known(names), force=force)

    def reload(self, config: Path | str | Mapping[str, Any] | Config | None = None) -> None:
        """Go over to another configuration, or to the file as it is now.

        Raises:
            certd.errors.CertdError: it is wrong, or has another state folder or seal; the
                one before stays.
        """
        from certd.errors import ConfigError

        with self._life:
            resident = self._running()
            source = self._source if config is None else config
            found = self._read(source)
            for key in ("state", "seal"):
                if getattr(found, key) != getattr(resident.config, key):
                    raise ConfigError(f"[certd] {key} has changed", "", "it takes a stop and start")
            resident.follow(found)
            self._source = source
        with self._changed:
            self._changed.notify_all()  # whoever waits for what is not wanted any more

    def _running(self) -> Resident:
        from certd.errors import CertdError

        resident = self._resident
        if resident is None:
            raise CertdError("this Certd does not run", "", "call start(), or use it in a with")
        if self._pid != os.getpid():
            why = f"it was started in process {self._pid}, and threads do not survive a fork"
            todo = "make a Certd and start it after the fork"
            raise CertdError("this Certd does not run here", why, todo)
        return resident

    def _known(self, names: tuple[str, ...] | list[str]) -> list[str]:
        """These, both of a pair that is named; or all."""
        return self._running().config.chosen(names)

    @staticmethod
    def _read(source: Path | str | Mapping[str, Any] | Config) -> Config:
        from certd import config as configuration
        from certd.errors import ConfigError
        from certd.store.files import daemon_lock
        from certd.store.locks import FileLock

        if isinstance(source, str | Path):
            return configuration.load(Path(source))
        if isinstance(source, configuration.Config):
            return source
        config = configuration.load_tables(source)
        lock = FileLock(daemon_lock(config.state))
        if lock.held():  # what is wanted here would be all that is wanted, of both
            raise ConfigError(
                f"a certd daemon works in {config.state}",
                f"{lock.holder()}: its certificates would not be wanted any more",
                "name the daemon's configuration file, or another state folder",
            )
        return config

    def _new_version(self, name: str, number: int, new: bool) -> None:
        """On the thread of the resident, which tries what it raises again; or of ``start``."""
        with self._changed:
            if self._resident is None:
                return  # it ends
            self._versions[name] = number
            self._changed.notify_all()
            showing = [context for context in self._contexts if name in context.names]
            if showing:
                from certd.live import show

                show(self._resident.bundle(name, number), showing)
            callbacks = list(self._callbacks) if new else []
        for callback in callbacks:
            try:
                callback(name, number)
            except Exception:  # the program's own: it stops nobody else
                log.exception("%s: a callback failed", name)
