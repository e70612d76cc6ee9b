"""Our account at one CA (RFC 8555 section 7.3), made when it is first needed.

The store's word counts: other processes may register it, give it another key or put
another account in its place, and whoever holds the one before notices.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import josepy

from certd.ca.keys import jwk, new_account_key, thumbprint
from certd.ca.net import Network, Reply
from certd.ca.problem import Problem
from certd.ca.registration import Registration
from certd.errors import StoreError, plain
from certd.failpoint import failpoint
from certd.known import Account

log = logging.getLogger(__name__)

LOOK = 2.0  # seconds after which the store is asked whether the account is another
# What CAs say of a signature by a key that is not the account's, or not any more.
WRONG_KEY = ("malformed", "unauthorized", "badSignatureAlgorithm")


class AccountBook(Protocol):
    """Where accounts are kept: the store."""

    def account(self, directory: str) -> Account | None: ...

    def keep_account(self, account: Account) -> Account:
        """Write it down unless there is one; returns the one that is there now."""

    def keep_account_key(self, account: Account) -> None:
        """Another key, for an account that no CA has heard of."""

    def keep_account_uri(self, account: Account) -> bool:
        """False: another process has given it another key."""

    def keep_rolled_over(self, account: Account) -> bool:
        """Its next key is its key from now on."""


class OurAccount:
    """Shared by all threads."""

    def __init__(
        self,
        registration: Registration,
        network: Network,
        accounts: AccountBook,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registration = registration
        self._network = network
        self._accounts = accounts
        self._monotonic = monotonic
        self._account: Account | None = None
        self._key: tuple[Account, josepy.JWK] | None = None
        self._look_at = 0.0
        self._lock = threading.RLock()

    def post(self, url: str, body: bytes, accept: str = "", made_for: str = "") -> Reply:
        """A request signed by the account, which is registered first if need be.

        ``made_for`` is the thumbprint of the key that the request has a meaning with; ""
        where that is any.

        Raises:
            Problem: the CA refused; ``asked`` is set where it refused the account.
            ConfigError: the CA's terms of service are not accepted.
        """
        account = self.registered()
        try:
            return self.ask(url, body, accept, made_for)
        except Problem as problem:
            if problem.type != "accountDoesNotExist":
                raise
            log.warning(
                "%s no longer knows the account %s: registering the same key again; CAA "
                "accounturi records that name the old account must be changed",
                self.registration.name,
                account.uri,
            )
        self._register(account)
        return self.ask(url, body, accept, made_for)

    def ask(self, url: str, body: bytes, accept: str = "", made_for: str = "") -> Reply:
        """The same for an account that there is: none is made.

        Where its key is refused, it is tried with what the store has by now: the key of a
        roll-over that another process has made, or was killed in.
        """
        account, tried = self.registered(), []
        first: Problem | None = None
        while True:
            key = self._jwk(account)
            if made_for and thumbprint(key) != made_for:
                detail = "the account has got another key meanwhile, and this is begun anew"
                raise Problem(url, None, "", detail, retry_after=0.0)
            try:
                reply = self._network.post(url, body, key, account.uri, accept)
            except Problem as problem:
                if problem.type not in WRONG_KEY:
                    raise
                tried.append(account.key_pem)
                other = next((one for one in self._candidates() if one.key_pem not in tried), None)
                if other is None:
                    raise first or problem from None
                first, account = first or problem, other
            else:
                if tried:
                    self._settle(account)
                return reply

    def check(self) -> None:
        """
        Raises:
            Problem: the CA does not take the account for valid any more.
        """
        url = self.registered().uri or self.registration.directory_url
        name = self.registration.name
        todo = f"ask {name} why; certd makes no other account by itself: `certd account register "
        todo += f"{name} --new` does"
        try:
            status = self.post(url, b"").json().get("status")
        except Problem as problem:
            problem.asked = "account"
            if problem.type == "unauthorized":
                problem.next = problem.next or todo
            elif problem.type in WRONG_KEY:  # for nothing else can be wrong with the request
                problem.next = problem.next or another_key(name)
            raise
        if status != "valid":
            raise _over(url, plain(str(status)), todo)

    def key(self) -> josepy.JWK:
        """The account's; key authorizations are made with it (RFC 8555 section 8.1)."""
        with self._lock:
            if self._account is None:
                raise StoreError("there is no account yet")
            return self._jwk(self._account)

    def uri(self) -> str:
        """Its URL, once it is registered."""
        with self._lock:
            return (self._account.uri if self._account else None) or ""

    def registered(self) -> Account:
        """The account as the store has it; made if there is none."""
        if self._account is None:
            for resource in ("newNonce", "newAccount"):  # rather than to wait for the lock
                self._network.spare(self.registration.directory()[resource])
        with self._lock:
            if self._account is None or self._monotonic() >= self._look_at:
                self._account = self._look_again(self._account) if self._account else self._first()
                self._look_at = self._monotonic() + LOOK
            if self._account.deactivated:
                self._look_at = 0.0  # another may be there at any moment
                raise self._ended(self._account)
            return self._account

    def forget(self) -> None:
        """The store has another: it is read before the next request."""
        with self._lock:
            self._account = None

    def _first(self) -> Account:
        directory = self.registration.directory_url
        account = self._accounts.account(directory)
        if account is None:
            # The key is in the store before the CA hears of it: a crash in between
            # finds the same account again (RFC 8555 section 7.3.1).
            account = self._accounts.keep_account(Account(directory, new_account_key()))
        if account.uri is None:
            return self._register(account)
        if account.terms and (terms := self.registration.other_terms(account)):
            name = self.registration.name
            log.warning(
                "%s has other terms of service than those that were accepted: read %s, then "
                "`certd account update %s`",
                *(name, terms, name),
            )
        return account

    def _look_again(self, mine: Account) -> Account:
        """As it is now, if another process has changed it."""
        there = self._accounts.account(mine.directory)
        if there is None or there.uri is None or there == mine:
            return mine
        if (there.uri, there.key_pem) != (mine.uri, mine.key_pem):
            log.info("%s: going on with account %s", self.registration.name, there.uri)
        return there

    def _candidates(self) -> list[Account]:
        """What the store has by now: the account, and with the key of a roll-over."""
        there = self._accounts.account(self.registration.directory_url)
        if there is None or there.uri is None:
            return []
        if there.deactivated:
            raise self._ended(there)
        return [there, *([_rolled_over(there)] if there.next_key_pem else [])]

    def _settle(self, account: Account) -> None:
        """The CA takes this one."""
        with self._lock:
            there = self._accounts.account(account.directory)
            if there and there.next_key_pem == account.key_pem:
                self._accounts.keep_rolled_over(there)
                failpoint("account: next key is its key")
                log.info("%s: the account has its next key", self.registration.name)
            self._account = account

    def _register(self, account: Account) -> Account:
        with self._lock:
            made = self.registration.register(account, self._accounts.keep_account_key)
            failpoint("account: registered")
            if not self._accounts.keep_account_uri(made):
                # Another process has given it another key meanwhile: that one's is the account.
                self._account = None
                return self.registered()
            self._account = made
            log.info("account %s at %s", made.uri, self.registration.name)
            return made

    def _jwk(self, account: Account) -> josepy.JWK:
        with self._lock:
            if account is not self._account:
                return jwk(account)
            if self._key is None or self._key[0] is not account:
                self._key = account, jwk(account)
            return self._key[1]

    def _ended(self, account: Account) -> Problem:
        """What to say of one that the operator has deactivated."""
        todo = f"`certd account register {self.registration.name} --new` makes another"
        return _over(account.uri or "", "deactivated, by `certd account`", todo)


def another_key(ca: str) -> str:
    """What to do where the CA does not take the account's signature."""
    return (
        "it may have got another key since this database was written: `certd account "
        f"import {ca}` takes that; or `certd account register {ca} --new`"
    )


def _over(url: str, how: str, todo: str) -> Problem:
    detail = f"the account is {how}"
    return Problem(url, 403, "unauthorized", detail, next=todo, asked="account")


def _rolled_over(account: Account) -> Account:
    assert account.next_key_pem is not None  # noqa: S101 - who calls has just seen it
    return replace(account, key_pem=account.next_key_pem, next_key_pem=None)
