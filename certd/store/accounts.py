"""Accounts at CAs, known by the CA's directory URL."""

from __future__ import annotations

import sqlalchemy as sa

from certd.model import Account
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.schema import account


class Accounts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def account(self, directory: str) -> Account | None:
        return self._database.read(lambda connection: _account(connection, directory))

    def keep_account(self, new: Account) -> Account:
        """Write it down unless there is one; returns the one that is there now."""

        def work(connection: sa.Connection) -> Account:
            there = _account(connection, new.directory)
            if there is None:
                connection.execute(
                    sa.insert(account).values(
                        directory=new.directory, key_pem=new.key_pem.reveal(), uri=new.uri
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
                .values(key_pem=unregistered.key_pem.reveal())
            )
        )

    def keep_account_uri(self, registered: Account) -> bool:
        """False: meanwhile another process has given the account another key."""
        mine = sa.and_(
            account.c.directory == registered.directory,
            account.c.key_pem == registered.key_pem.reveal(),
        )
        change = sa.update(account).where(mine).values(uri=registered.uri)
        return bool(self._database.write(lambda c: c.execute(change).rowcount))


def _account(connection: sa.Connection, directory: str) -> Account | None:
    row = connection.execute(sa.select(account).where(account.c.directory == directory)).first()
    return Account(row.directory, Secret(row.key_pem), row.uri) if row else None
