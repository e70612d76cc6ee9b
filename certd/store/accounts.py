"""Accounts at CAs, known by the CA's directory URL.

All processes share them. Each change names the key that it was decided by: where another
process has given the account another meanwhile, nothing is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from certd.known import Account
from certd.secrets import Secret
from certd.store.database import Database
from certd.store.envelope import of_account, of_next_account_key
from certd.store.schema import account
from certd.store.seal import Seal


class Accounts:
    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def account(self, directory: str) -> Account | None:
        return self._database.read(lambda connection: self._account(connection, directory))

    def uri(self, directory: str) -> str | None:
        """The account's URL; None: there is none yet, or it is not known."""
        found = self.account(directory)
        return found.uri if found else None

    def all(self) -> list[Account]:
        """By directory."""
        query = sa.select(account).order_by(account.c.directory)
        return self._database.read(lambda c: [self._of(c, row) for row in c.execute(query)])

    def keep_account(self, new: Account) -> Account:
        """Write it down unless there is one; returns the one that is there now."""

        def work(connection: sa.Connection) -> Account:
            there = self._account(connection, new.directory)
            if there is None:
                connection.execute(sa.insert(account).values(self._values(connection, new)))
            return there or new

        return self._database.write(work)

    def keep_account_key(self, unregistered: Account) -> None:
        """Another key, for an account that no CA has heard of."""

        def work(connection: sa.Connection) -> None:
            there = self._account(connection, unregistered.directory)
            if there and there.uri is None:
                self._put(connection, replace(there, key_pem=unregistered.key_pem))

        self._database.write(work)

    def keep_account_uri(self, registered: Account) -> bool:
        """False: meanwhile another process has given the account another key."""
        return self._change(registered, uri=registered.uri, terms=registered.terms)

    def keep_next_key(self, of: Account, key_pem: Secret) -> Account | None:
        """The key that it is about to be rolled over to; one that was begun with stays.

        Returns the account as it is now; None: it has another key meanwhile.
        """

        def work(connection: sa.Connection) -> Account | None:
            there = self._account(connection, of.directory)
            if there is None or there.key_pem != of.key_pem:
                return None
            if there.next_key_pem is None:
                there = replace(there, next_key_pem=key_pem)
                self._put(connection, there)
            return there

        return self._database.write(work)

    def keep_rolled_over(self, of: Account) -> bool:
        """The CA takes its next key: that is its key from now on."""
        return of.next_key_pem is not None and self._change(
            of, key_pem=of.next_key_pem, next_key_pem=None
        )

    def forget_next_key(self, of: Account) -> bool:
        """The CA does not take it, and never will."""
        return self._change(of, next_key_pem=None)

    def keep_deactivated(self, of: Account) -> bool:
        return self._change(of, deactivated=True)

    def replace(self, old: Account | None, new: Account) -> bool:
        """``new`` takes the place of ``old``; False: that is not what is there any more."""

        def work(connection: sa.Connection) -> bool:
            if self._account(connection, new.directory) != old:
                return False
            if old is None:
                connection.execute(sa.insert(account).values(self._values(connection, new)))
            else:
                self._put(connection, new)
            return True

        return self._database.write(work)

    def _change(self, of: Account, **fields: Any) -> bool:
        """False: there is another account, or it has another key."""

        def work(connection: sa.Connection) -> bool:
            there = self._account(connection, of.directory)
            if there is None or there.key_pem != of.key_pem:
                return False
            self._put(connection, replace(there, **fields))
            return True

        return self._database.write(work)

    def _put(self, connection: sa.Connection, of: Account) -> None:
        here = account.c.directory == of.directory
        connection.execute(sa.update(account).where(here).values(self._values(connection, of)))

    def _account(self, connection: sa.Connection, directory: str) -> Account | None:
        row = connection.execute(sa.select(account).where(account.c.directory == directory)).first()
        return self._of(connection, row) if row else None

    def _of(self, connection: sa.Connection, row: Any) -> Account:
        keys, url = self._seal.keys(connection), row.directory
        following = row.next_key_pem
        return Account(
            url,
            keys.open(row.key_pem, of_account(url)),
            row.uri,
            keys.open(following, of_next_account_key(url)) if following else None,
            bool(row.deactivated),
            row.terms,
        )

    def _values(self, connection: sa.Connection, of: Account) -> dict[str, Any]:
        keys, url = self._seal.keys(connection), of.directory
        following = of.next_key_pem
        return {
            "directory": url,
            "key_pem": keys.seal(of.key_pem, of_account(url)),
            "uri": of.uri,
            "next_key_pem": following and keys.seal(following, of_next_account_key(url)),
            "deactivated": of.deactivated,
            "terms": of.terms,
        }
