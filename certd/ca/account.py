"""Our account at one CA (RFC 8555 section 7.3), made when it is first needed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import josepy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certd.ca.net import Network, Reply, is_url
from certd.ca.problem import Problem
from certd.errors import CAError, ConfigError, StoreError, plain
from certd.model import Account
from certd.react import Do, Situation, react
from certd.secrets import Secret

log = logging.getLogger(__name__)

# ES256 first: its signature costs a quarter of an RS256 one.
ALGORITHMS: Mapping[str, Callable[[], ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


class AccountBook(Protocol):
    """Where accounts are kept: the store."""

    def account(self, directory: str) -> Account | None: ...

    def keep_account(self, account: Account) -> Account:
        """Write it down unless there is one; returns the one that is there now."""

    def keep_account_key(self, account: Account) -> None:
        """Another key, for an account that no CA has heard of."""

    def keep_account_uri(self, account: Account) -> bool: ...


def new_account_key(algorithm: str = "ES256") -> Secret:
    """The PEM of a key for one of ``ALGORITHMS``."""
    return Secret(
        ALGORITHMS[algorithm]()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


class OurAccount:
    """Shared by all threads."""

    def __init__(
        self,
        name: str,
        directory_url: str,
        directory: Callable[[], Mapping[str, Any]],
        network: Network,
        accounts: AccountBook,
        contact: tuple[str, ...],
        *,
        agreed: bool,
    ) -> None:
        """``name`` is the CA's; ``agreed``: its terms of service are accepted."""
        self._name = name
        self._directory_url = directory_url
        self._directory = directory
        self._network = network
        self._accounts = accounts
        self._contact = contact
        self._agreed = agreed
        self._account: Account | None = None
        self._key: josepy.JWK | None = None
        self._lock = threading.RLock()

    def post(self, url: str, body: bytes, accept: str = "") -> Reply:
        """A request signed by the account, which is registered first if need be.

        Raises:
            Problem: the CA refused; ``asked`` is set where it refused the account.
            ConfigError: the CA's terms of service are not accepted.
        """
        account = self._registered()
        try:
            return self._network.post(url, body, self.key(), account.uri, accept)
        except Problem as problem:
            if problem.type != "accountDoesNotExist":
                raise
            log.warning(
                "%s no longer knows the account %s: registering the same key again; CAA "
                "accounturi records that name the old account must be changed",
                self._name,
                account.uri,
            )
        account = self._register(account)
        return self._network.post(url, body, self.key(), account.uri, accept)

    def check(self) -> None:
        """
        Raises:
            Problem: the CA does not take the account for valid any more.
        """
        url = self._registered().uri or self._directory_url
        try:
            status = self.post(url, b"").json().get("status")
        except Problem as problem:
            problem.asked = "account"
            raise
        if status != "valid":
            raise Problem(
                url,
                403,
                "unauthorized",
                f"the account is {plain(str(status))}",
                next=f"ask {self._name} why; certd makes no other account by itself",
                asked="account",
            )

    def key(self) -> josepy.JWK:
        """The account's; key authorizations are made with it (RFC 8555 section 8.1)."""
        with self._lock:
            if self._key is None:
                if self._account is None:
                    raise StoreError("there is no account yet")
                self._key = _jwk(self._account)
            return self._key

    def _registered(self) -> Account:
        if self._account is None:
            for resource in ("newNonce", "newAccount"):  # rather than to wait for the lock
                self._network.spare(self._directory()[resource])
        with self._lock:
            if self._account is None:
                account = self._accounts.account(self._directory_url)
                if account is None:
                    # The key is in the store before the CA hears of it: a crash in
                    # between finds the same account again (RFC 8555 section 7.3.1).
                    account = self._accounts.keep_account(
                        Account(self._directory_url, new_account_key())
                    )
                self._key = None
                self._account = account if account.uri else self._register(account)
            return self._account

    def _register(self, account: Account) -> Account:
        """newAccount (RFC 8555 section 7.3), which finds an existing account by its key."""
        with self._lock:
            self._check_agreement()
            contact, tried = self._contact, set[Do]()
            while True:
                try:
                    uri = self._new_account(account, contact)
                    break
                except Problem as problem:
                    problem.asked = "account"
                    reaction = react(problem.refusal, Situation("account", done=frozenset(tried)))
                    tried.add(reaction.do)
                    accepted = [name for name in ALGORITHMS if name in problem.algorithms]
                    if reaction.do == "without contact" and contact:
                        log.warning("%s: an account without contact: %s", self._name, problem.why)
                        contact = ()
                    elif reaction.do == "other algorithm" and accepted and not account.uri:
                        log.warning("%s: a key for %s: %s", self._name, accepted[0], problem.why)
                        account = Account(account.directory, new_account_key(accepted[0]))
                        self._accounts.keep_account_key(account)
                    else:
                        raise
            self._account = Account(account.directory, account.key_pem, uri)
            self._key = None
            if not self._accounts.keep_account_uri(self._account):
                # Another process has given it another key meanwhile: that one's is the account.
                self._account = None
                return self._registered()
            log.info("account %s at %s", uri, self._name)
            return self._account

    def _new_account(self, account: Account, contact: tuple[str, ...]) -> str:
        """The account's URI."""
        payload: dict[str, Any] = {"termsOfServiceAgreed": True} if self._agreed else {}
        if contact:
            payload["contact"] = list(contact)
        url = self._directory()["newAccount"]
        reply = self._network.post(url, json.dumps(payload).encode(), _jwk(account), None)
        uri = reply.headers.get("location")
        if not is_url(uri):  # it is signed with, kept and shown, but never asked for
            raise CAError(
                "the CA made an account without saying where",
                "no Location header, or no URL in it",
            )
        return uri

    def _check_agreement(self) -> None:
        """
        Raises:
            ConfigError: the CA has terms of service, and they are not accepted.
        """
        meta = self._directory().get("meta")
        terms = meta.get("termsOfService") if isinstance(meta, dict) else None
        if not isinstance(terms, str | None):
            raise CAError(f"{self._directory_url} names terms of service by what is no text")
        if terms and not self._agreed:
            raise ConfigError(
                f"the terms of service of {self._name} are not accepted",
                f"it makes no account before: {plain(terms)}",
                f"read them, then write agree_tos = true in [ca.{self._name}]",
            )


def _jwk(account: Account) -> josepy.JWK:
    return josepy.JWK.load(account.key_pem.reveal().encode())
