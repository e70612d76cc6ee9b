"""What the operator asks of a CA about an account (RFC 8555 sections 7.3.1 to 7.3.6): to show
it, change it, roll its key over, end it, or find another client's.

The store is written before the CA is asked where a crash in between would lose something,
and after it otherwise.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

from certd.ca.account import WRONG_KEY, AccountBook, OurAccount, another_key
from certd.ca.account_view import View, deactivated, read
from certd.ca.jws import key_change
from certd.ca.keys import jwk, new_account_key, thumbprint
from certd.ca.net import Reply
from certd.ca.problem import Problem
from certd.errors import CAError, ConfigError, StoreError
from certd.failpoint import failpoint
from certd.known import Account
from certd.secrets import Secret

log = logging.getLogger(__name__)

_ABSENT = (404, 405, 501)  # HTTP status of what is not there at all
_MEANWHILE = "another certd has changed the account meanwhile"


class AccountStore(AccountBook, Protocol):
    """What is needed of the store beyond what the daily work needs."""

    def keep_next_key(self, account: Account, key_pem: Secret) -> Account | None: ...

    def forget_next_key(self, account: Account) -> bool: ...

    def keep_deactivated(self, account: Account) -> bool: ...

    def replace(self, old: Account | None, new: Account) -> bool: ...


class AccountRequests:
    """For one CA and one command."""

    def __init__(self, account: OurAccount, accounts: AccountStore) -> None:
        self._account = account
        self._accounts = accounts
        self._registration = account.registration
        self._name = account.registration.name

    def known(self) -> Account:
        """The account that the store has.

        Raises:
            ConfigError: there is none that a CA has heard of.
        """
        found = self._accounts.account(self._registration.directory_url)
        if found is None or found.uri is None:
            raise ConfigError(
                f"there is no account at {self._name} yet",
                "",
                f"`certd account register {self._name}` makes one, and so does the first "
                "certificate from there",
            )
        return found

    def register(self) -> View:
        """Make the account, or see that the CA takes the one that there is."""
        self._account.check()
        return self.view()

    def there(self) -> bool:
        """Whether there is one that a CA has heard of."""
        found = self._accounts.account(self._registration.directory_url)
        return bool(found and found.uri)

    def register_another(self) -> View:
        """Make another account, with another key, in place of one that is over.

        Raises:
            ConfigError: it is not over.
        """
        there = self._accounts.account(self._registration.directory_url)
        if there and there.uri and not there.deactivated and not self._is_over(*WRONG_KEY):
            raise ConfigError(
                f"the account {there.uri} is valid",
                "another in its place would lose it",
                f"`certd account deactivate {self._name}` ends it; or give it another key: "
                f"`certd account rollover {self._name}`",
            )
        if there and there.uri:  # else a key is there that waits for its account
            self._replace(there, Account(there.directory, new_account_key()))
            failpoint("account: another key is kept")
        return self.register()

    def view(self) -> View:
        """What the CA shows; of one that was deactivated here, what is known.

        Raises:
            Problem: the CA does not know the account, or does not take it for valid.
        """
        account = self.known()
        if account.deactivated:  # to whoever signs with its key, a CA shows nothing any more
            return deactivated(account)
        return self._read(self._ask(b"").json())

    def update(self) -> View:
        """Tell the CA the configured contacts (RFC 8555 section 7.3.2), and note its terms.

        Raises:
            ConfigError: they are others than those that were accepted, and so are not accepted.
        """
        if self._registration.other_terms(self.known()):
            self._registration.accepted()
        body = json.dumps({"contact": list(self._registration.contact)}).encode()
        try:
            document = self._ask(body).json()
        except Problem as problem:
            if problem.type in ("invalidContact", "unsupportedContact"):
                problem.next = problem.next or "correct contact in [certd]"
            raise
        view = self._read(document)
        if view.other_terms:  # what agree_tos says is said of these now
            now = self.known()
            self._accounts.keep_account_uri(
                Account(now.directory, now.key_pem, now.uri, terms=view.other_terms)
            )
        return view

    def roll_over(self, algorithm: str) -> Account:
        """Give the account another key (RFC 8555 section 7.3.5).

        The key is in the store before the CA hears of it. Killed in between, or left
        without an answer, whoever asks next tries both; and the same again goes on with it.

        Raises:
            ConfigError: the CA does not offer it.
            CAError: it refused, or it is not known whether it has done it.
        """
        url = self._registration.directory().get("keyChange")
        if not isinstance(url, str):
            raise self._no_roll_over("its directory has no keyChange")
        self.view()  # settles a roll-over that was begun and is done at the CA
        account = self._accounts.keep_next_key(self.known(), new_account_key(algorithm))
        if account is None or account.next_key_pem is None or account.uri is None:
            raise StoreError(_MEANWHILE, "", "look at it: `certd account list`")
        failpoint("account: next key is kept")
        new = Account(account.directory, account.next_key_pem, account.uri)
        inner = key_change(account.uri, jwk(account), jwk(new), url)
        try:
            self._ask(json.dumps(inner).encode(), url)
        except CAError as error:
            return self._after_refusal(account, new, error)
        failpoint("account: the CA has the next key")
        self._accounts.keep_rolled_over(account)
        failpoint("account: next key is its key")
        self._account.forget()
        return self.known()

    def _after_refusal(self, account: Account, new: Account, error: CAError) -> Account:
        """Which of the keys does the CA take now? The new one where only its answer was lost."""
        try:
            self._account.forget()
            view = self.view()
        except CAError as second:
            log.info("%s: %s", self._name, second)
            raise CAError(
                f"it is not known whether {self._name} has rolled the key over",
                str(error),
                f"both keys are kept, and tried: `certd account rollover {self._name}` goes on",
            ) from error
        if view.thumbprint == thumbprint(jwk(new)):
            return self.known()
        if isinstance(error, Problem) and error.status:
            absent = error.status in _ABSENT  # though some name it in their directory
            if absent or not error.transient:
                self._accounts.forget_next_key(account)
            if absent:
                raise self._no_roll_over(error.why) from error
        raise error

    def _no_roll_over(self, why: str) -> ConfigError:
        todo = f"for another key, `certd account deactivate {self._name}` and `certd account "
        todo += f"register {self._name} --new` make another account"
        return ConfigError(f"{self._name} does not roll keys over", why, todo)

    def deactivate(self) -> Account:
        """End it, for good (RFC 8555 section 7.3.6)."""
        account = self.known()
        if account.deactivated:
            return account
        try:
            self._ask(b'{"status": "deactivated"}')
        except Problem as problem:
            # Anything else may be said of another key's signature, and the account goes on.
            if problem.transient or not self._is_over("unauthorized"):
                raise
        failpoint("account: deactivated at the CA")
        account = self.known()  # it may have been settled on another key
        if not self._accounts.keep_deactivated(account):
            raise StoreError(_MEANWHILE, "", "look at it: `certd account list`")
        return account

    def adopt(self, key_pem: Secret, *, replace: bool) -> tuple[Account, Account | None]:
        """Take over the account that the CA knows by this key; also the one before, if another.

        Raises:
            ConfigError: the CA knows none; or there is another and ``replace`` is not said.
        """
        directory = self._registration.directory_url
        there = self._accounts.account(directory)
        try:
            found = self._registration.find(Account(directory, key_pem))
        except Problem as problem:
            if problem.type != "accountDoesNotExist":
                todo = f"`certd account register {self._name}` makes one of certd's own"
                problem.next = problem.next or ("" if problem.transient else todo)
                raise
            raise ConfigError(
                f"{self._name} knows no account with this key",
                problem.why,
                f"check that it is for the CA at {directory}: each CA, and its staging service, "
                "has accounts of its own",
            ) from problem
        other = there if there and there.uri and there.uri != found.uri else None
        if other and not other.deactivated and not replace:
            raise ConfigError(
                f"there is an account at {self._name} already: {other.uri}",
                f"the key is that of {found.uri}",
                "--replace puts it in its place; `certd account export` keeps the one before",
            )
        if there is None or (there.uri, there.key_pem) != (found.uri, found.key_pem):
            self._replace(there, found)
            failpoint("account: taken over")
        return found, other

    # -- with the CA -----------------------------------------------------------------------

    def _ask(self, body: bytes, url: str = "") -> Reply:
        """The account's own URL, or another; where the CA has lost it, with what to do."""
        try:
            return self._account.ask(url or self.known().uri or "", body)
        except Problem as problem:
            if problem.type == "accountDoesNotExist":
                problem.next = problem.next or (
                    f"`certd account register {self._name}` registers the same key again; CAA "
                    "accounturi records that name the account must then be changed"
                )
            elif not body and problem.type in ("malformed", "badSignatureAlgorithm"):
                problem.next = problem.next or another_key(self._name)
            raise

    def _read(self, document: dict[str, Any]) -> View:
        account = self.known()
        return read(document, account, self._registration.other_terms(account))

    def _is_over(self, *refusals: str) -> bool:
        """Whether the CA does not know it, does not call it valid, or so refuses to show it."""
        try:
            return self.view().status != "valid"
        except Problem as problem:
            if problem.type in ("accountDoesNotExist", *refusals):
                return True
            raise

    def _replace(self, old: Account | None, new: Account) -> None:
        if not self._accounts.replace(old, new):
            raise StoreError(_MEANWHILE, "", "look at it: `certd account list`")
        self._account.forget()
