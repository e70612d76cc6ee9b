"""``Store``: opens the database in the state folder and hands out its parts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from certd.errors import StoreError
from certd.references import SecretReference
from certd.room import Lack, lack
from certd.store.accounts import Accounts
from certd.store.authorities import Authorities
from certd.store.backup import forget_unfinished
from certd.store.budgets import Budgets
from certd.store.crls import CRLs
from certd.store.database import Database
from certd.store.files import advice, database_file, gate, workers
from certd.store.leases import Leases
from certd.store.lineages import Lineages
from certd.store.locks import FileLock, Worker
from certd.store.next_keys import NextKeys
from certd.store.orders import Orders
from certd.store.others import Others
from certd.store.parks import Parks
from certd.store.records import Records
from certd.store.resealing import rotate, take_up
from certd.store.revocations import Revocations
from certd.store.seal import Seal
from certd.store.tokens import Tokens
from certd.store.versions import Versions

ORDER_OCTETS = 256 * 1024  # of an order and its version, in the database and its journal
ORDER_FILES = 4


class Store:
    """One process's view of the state folder; shared by its threads."""

    def __init__(self, database: Database, worker: Worker | None, seal: Seal | None = None) -> None:
        self._seal = seal = seal or Seal()
        self._database = database
        self._worker = worker
        self.leases = Leases(database, worker)
        self.lineages = Lineages(database, self.leases, seal)
        self.parks = Parks(database, self.leases)
        self.orders = Orders(database, self.leases, seal)
        self.next_keys = NextKeys(database, self.leases, seal)
        self.versions = Versions(database, self.leases, seal)
        self.revocations = Revocations(database)
        self.crls = CRLs(database)
        self.tokens = Tokens(database, seal)
        self.records = Records(database, seal)
        self.others = Others(database)
        self.accounts = Accounts(database, seal)
        self.authorities = Authorities(database, seal)
        self.budgets = Budgets(database)

    @classmethod
    def open(cls, state: Path, seal: SecretReference | None = None) -> Store:
        """Open the store in this folder, making both if need be.

        With ``seal``, the place of a sealing key, all secrets in it are sealed; those that
        are not yet are now.

        Raises:
            StoreError: the folder or the database cannot be used; it is sealed by another key.
            SecretError: the sealing key cannot be fetched.
        """
        try:
            state.mkdir(mode=0o700, exist_ok=True)
            if state.stat().st_mode & stat.S_IWOTH:
                raise StoreError(
                    f"cannot use the state folder {state}",
                    "everybody may write to it, and the private keys are kept there",
                    f"chmod 0700 {state}",
                )
            worker = Worker(workers(state))
        except OSError as error:
            raise StoreError(
                f"cannot use the state folder {state}",
                error.strerror or str(error),
                advice(
                    error, "create its parent, run certd as its owner, or correct [certd] state"
                ),
            ) from error
        opening = FileLock(gate(state))
        try:
            # A worker by now: whoever is about to put another database here sees it, or
            # has the gate, and is waited for.
            opening.try_acquire(str(os.getpid()), wait=True)
            forget_unfinished(state)
            database = Database.open(database_file(state))
            database.look_over()
            sealing = Seal(seal)
            take_up(database, sealing)
        except BaseException:
            worker.close()
            raise
        finally:
            opening.release()
        store = cls(database, worker, sealing)
        store.leases.free_the_dead()
        return store

    @classmethod
    def look(cls, state: Path, seal: SecretReference | None = None) -> Store:
        """For commands that only read: leases nothing, creates nothing and seals nothing.

        Where there is no database yet, an empty one in memory stands for it.
        """
        path = database_file(state)
        try:
            exists = os.path.lexists(path)
            os.stat(path) if exists else os.scandir(state).close()
        except FileNotFoundError:
            exists = False
        except OSError as error:
            raise StoreError(
                f"cannot read {path}",
                error.strerror or str(error),
                advice(error, "run this command as root, or as the user that certd runs as"),
            ) from error
        return cls(Database.open(path) if exists else Database.in_memory(), None, Seal(seal))

    @classmethod
    def in_memory(cls) -> Store:
        """A store that keeps nothing: for ``certd renew --dry-run``."""
        return cls(Database.in_memory(), None)

    def lack(self) -> Lack | None:
        """What keeps another order from being written down; None: nothing."""
        path = self._database.path
        return lack(path.parent, ORDER_OCTETS, ORDER_FILES) if path else None

    def seal_anew(self) -> bool:
        """Seal everything with the first of the operator's keys; False: it was so already.

        Raises:
            StoreError, SecretError: the key is not there.
        """
        return rotate(self._database, self._seal)

    def settle(self) -> None:
        """Bring what this thread has deferred to the disk."""
        self._database.settle()

    def close(self) -> None:
        if self._worker is not None:
            self.leases.release_all()
            self._worker.close()
        self._database.close()
