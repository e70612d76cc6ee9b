"""The connection: opening, transactions, group commit, migrations. Knows no table.

Before SQLite 3.51.3, WAL can corrupt a database that two connections write to, and the
daemon and ``certd renew`` are two: the rollback journal is used there, fully synced.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from certd.errors import StoreError
from certd.failpoint import failpoint
from certd.store import revision, schema
from certd.store.files import HEAD, newer, open_own
from certd.store.locks import FileLock
from certd.store.rows import DAMAGED, Unreadable, is_damage
from certd.store.upgrade import upgrade

BUSY_TIMEOUT = 30.0  # seconds to wait for another process's transaction

T = TypeVar("T")
Work = Callable[[sa.Connection], T]


class _Job(Generic[T]):
    """One caller's share of a group commit."""

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.done = False
        self.result: T
        self.error: BaseException | None = None


class Database:
    """One SQLite file, one connection shared by all threads of this process.

    ``write`` returns when its work is on the disk. Writers that arrive while another one
    commits share the next commit: the disk, not the interpreter, is what they wait for.
    """

    def __init__(self, path: Path | None) -> None:
        """``path`` None: a database in memory, which dies with the process."""
        self._lock = threading.RLock()
        self._waiting: deque[_Job[Any]] = deque()
        self._mine = threading.local()  # what each thread has deferred
        self._damage = ""  # once it is known to be damaged: in which way
        self.path = path
        url = "sqlite://" if path is None else f"sqlite:///{path}"
        engine = sa.create_engine(
            url,
            poolclass=StaticPool,
            isolation_level="AUTOCOMMIT",  # transactions are opened here, by name
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT},
        )
        with self._explained():
            self._connection = engine.connect()
            self._raw = cast(sqlite3.Connection, self._connection.connection.dbapi_connection)
            wal = sqlite3.sqlite_version_info >= (3, 51, 3) and path is not None
            mode = f"journal_mode={'WAL' if wal else 'DELETE'}"
            # Keys and tokens that are over are not left in the file's free space.
            for pragma in (mode, "synchronous=FULL", "secure_delete=ON"):
                self._connection.exec_driver_sql(f"PRAGMA {pragma}")
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the file, and bring its tables up to date.

        Raises:
            StoreError: it cannot be opened, is corrupt, or is newer than this program.
        """
        try:
            os.close(open_own(path))
        except OSError as error:
            raise StoreError(
                f"cannot open the database {path}",
                error.strerror or str(error),
                "run certd as the user that owns the state folder, or correct [certd] state",
            ) from error
        database = cls(path)
        try:
            if database._revision() != HEAD:
                lock = FileLock(path.with_name("migrate.lock"))
                lock.try_acquire(str(os.getpid()), wait=True)
                try:
                    database._migrate()
                finally:
                    lock.release()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def in_memory(cls) -> Database:
        database = cls(None)
        schema.metadata.create_all(database._connection)
        return database

    def read(self, work: Work[T]) -> T:
        """Run ``work`` on one consistent state, with all that this thread wrote before."""
        self.settle()
        with self._lock, self._explained(), self._transaction("BEGIN"):
            try:
                return work(self._connection)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                # From rows to values, and nothing else: SQLite has no checksums.
                how = f"a row cannot be read ({type(error).__name__})"
                raise self._damaged(how) from error

    def look_over(self) -> None:
        """Whether SQLite finds the file whole; some 0.1 s for 10,000 certificates.

        Raises:
            StoreError: it does not.
        """
        found = self.read(lambda c: c.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if found != "ok":
            raise self._damaged(str(found))

    def write(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction and return its result once that is on the disk.

        ``work`` may be run together with others', and may be run twice: where one of them
        raises, all are undone and each is run again by itself, so that nobody else's
        changes are lost. So it changes nothing but the database.
        """
        job = _Job(work)
        self._waiting.append(job)
        with self._lock:
            if not job.done:
                self._commit_waiting()
        self.settle()
        if job.error is not None:
            raise job.error
        return job.result

    def defer(self, work: Work[Any]) -> None:
        """Run ``work`` together with the next write, and before it.

        For what a crash may take back, as long as it takes back what follows too: each
        commit waits for the disk, and this saves one. What ``work`` raises is raised by
        this thread's next ``write``, ``read`` or ``settle``.
        """
        job = _Job(work)
        self._mine.__dict__.setdefault("deferred", []).append(job)
        self._waiting.append(job)

    def settle(self) -> None:
        """Bring what this thread has deferred to the disk; raise what failed of it."""
        deferred: list[_Job[Any]] = self._mine.__dict__.pop("deferred", [])
        if not all(job.done for job in deferred):
            with self._lock:  # nobody is in the middle of a commit
                self._commit_waiting()
        for job in deferred:
            if job.error is not None:
                raise job.error

    def rebuild(self) -> None:
        """Write the file anew, without what was in its free space.

        Raises:
            StoreError: others use it for too long, or there is no room for it twice.
        """
        with self._lock, self._explained():
            self._do("VACUUM")
            busy = self._do("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy and busy[0]:
                raise StoreError(f"{self.path} was not written anew", "others read it", "")

    def close(self) -> None:
        with self._lock:
            self._commit_waiting()
            self._connection.close()
            self._engine.dispose()

    def _commit_waiting(self) -> None:
        batch: list[_Job[Any]] = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        try:
            if batch:
                self._commit(batch)
        except BaseException:  # Ctrl-C hits whoever commits for the others
            for job in batch:
                if not job.done:
                    job.error = job.error or StoreError("a write was interrupted", "certd stops")
            raise
        finally:
            for job in batch:
                job.done = True

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            with self._explained(), self._transaction("BEGIN IMMEDIATE"):
                for job in batch:
                    job.result = job.work(self._connection)
            for job in batch:
                job.done = True
        except Exception as error:
            if len(batch) == 1:
                batch[0].error, batch[0].done = error, True
                return
            for job in batch:
                self._commit([job])

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._do(begin)
        try:
            yield
            if begin != "BEGIN":
                failpoint("store: about to commit")
            self._do("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors (disk full, I/O error).
            if self._in_transaction():
                self._do("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the driver raises into a StoreError; statements and values stay out of it.

        Once the file is known to be damaged, nothing is read or written any more: what is
        there could be taken for the truth, and lead to anything.
        """
        try:
            if self._damage:
                raise self._damaged(self._damage)
            yield
        except sa.exc.DBAPIError as error:
            reason = str(error.orig)
            if is_damage(reason):
                raise self._damaged(reason) from None
            if "closed database" in reason:  # a step that outlived the stop, in a program
                why = "certd was stopped meanwhile; what was under way goes on at the next start"
                raise StoreError("the store is closed", why) from None
            advice = "check the disk: space, permissions, errors in the kernel's log"
            what = f"the database {self.path or 'in memory'} failed"
            raise StoreError(what, reason, advice) from None
        except UnicodeDecodeError as error:  # the driver's, over SQLite's words about garbage
            raise self._damaged("its text is none") from error
        except Unreadable as error:
            raise self._damaged(f"a row cannot be read: {error}") from error

    def _damaged(self, how: str) -> StoreError:
        self._damage = how
        return StoreError(f"the database {self.path or 'in memory'} failed", how, DAMAGED)

    def _do(self, statement: str) -> sqlite3.Cursor:
        # Straight to the driver: these are most of all statements, and have no values.
        try:
            return self._raw.execute(statement)
        except sqlite3.Error as error:
            raise sa.exc.DBAPIError(statement, None, error) from error

    def _in_transaction(self) -> bool:
        return self._raw.in_transaction

    def _revision(self) -> str | None:
        with self._explained():
            return revision.of(self._connection)

    def _migrate(self) -> None:
        there = self._revision()
        if there == HEAD:  # another process was quicker
            return
        if there is None:
            self.write(revision.create)
            return
        if there > HEAD:
            raise newer(self.path, there)
        upgrade(self._connection, self._raw, self.path, there)
