"""Accounts at CAs, known by the CA's directory URL."""

from __future__ import annotations

import sqlalchemy as sa

from certd.model import Account
from certd.store.database import Database
from certd.store.envelope import of_account
from certd.store.schema import account
from certd.store.seal import Seal


class Accounts:
    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def account(self, directory: str) -> Account | None:
        return self._database.read(lambda connection: self._account(connection, directory))

    def keep_account(self, new: Account) -> Account:
        """Write it down unless there is one; returns the one that is there now."""

        def work(connection: sa.Connection) -> Account:
            there = self._account(connection, new.directory)
            if there is None:
                connection.execute(
                    sa.insert(account).values(
                        directory=new.directory,
                        key_pem=self._sealed(connection, new),
                        uri=new.uri,
                    )
                )
            return there or new

        return self._database.write(work)

    def keep_account_key(self, unregistered: Account) -> None:
        """Another key, for an account that no CA has heard of."""
        self._database.write(
            lambda connection: connection.execute(
                sa.update(account)
                .where(account.c.directory == unregistered.directory, account.c.uri.is_(None))
                .values(key_pem=self._sealed(connection, unregistered))
            )
        )

    def keep_account_uri(self, registered: Account) -> bool:
        """False: meanwhile another process has given the account another key."""

        def work(connection: sa.Connection) -> bool:
            there = self._account(connection, registered.directory)
            if there is None or there.key_pem != registered.key_pem:
                return False
            mine = account.c.directory == registered.directory
            connection.execute(sa.update(account).where(mine).values(uri=registered.uri))
            return True

        return self._database.write(work)

    def _account(self, connection: sa.Connection, directory: str) -> Account | None:
        row = connection.execute(sa.select(account).where(account.c.directory == directory)).first()
        if row is None:
            return None
        key = self._seal.keys(connection).open(row.key_pem, of_account(directory))
        return Account(row.directory, key, row.uri)

    def _sealed(self, connection: sa.Connection, of: Account) -> str:
        return self._seal.keys(connection).seal(of.key_pem, of_account(of.directory))
