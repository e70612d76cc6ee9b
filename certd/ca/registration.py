"""newAccount (RFC 8555 section 7.3): an account made, or found by its key."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import josepy

from certd.ca.jws import binding
from certd.ca.keys import ALGORITHMS, jwk, new_account_key
from certd.ca.net import Network, Reply, is_url
from certd.ca.problem import Problem
from certd.config import EABSettings, identifiers
from certd.errors import CAError, ConfigError, plain
from certd.known import Account
from certd.react import Do, Situation, react

# What CAs say of a binding that is wrong; each has its own idea.
_ABOUT_BINDING = ("externalAccountRequired", "unauthorized", "malformed", "accountDoesNotExist")

log = logging.getLogger(__name__)


class Registration:
    """At one CA, as its ``[ca.NAME]`` wants it."""

    def __init__(
        self,
        name: str,
        directory_url: str,
        directory: Callable[[], Mapping[str, Any]],
        network: Network,
        contact: tuple[str, ...],
        *,
        agreed: bool,
        eab: EABSettings | None,
    ) -> None:
        """``name`` is the CA's; ``agreed``: its terms of service are accepted."""
        self.name = name
        self.directory_url = directory_url
        self.directory = directory
        self.contact = contact
        self._network = network
        self._agreed = agreed
        self._eab = eab

    def register(self, account: Account, keep_key: Callable[[Account], None]) -> Account:
        """Make it, or find it by its key; with its URI and what was agreed to.

        Where the CA takes no such key, and the account never had another use for it,
        ``keep_key`` is told the next one before the CA is.

        Raises:
            Problem: the CA refused; ``asked`` is set.
            ConfigError: its terms of service are not accepted, or ``eab`` holds no key.
            SecretError: that is not there.
        """
        terms = self.accepted()
        # Only now that it is needed, and not kept.
        mac_key = self._mac_key()
        contact, tried = self.contact, set[Do]()
        while True:
            try:
                uri = self._new_account(account, contact, mac_key)
                return replace(account, uri=uri, terms=terms)
            except Problem as problem:
                problem.asked = "account"
                problem.next = problem.next or self._about_binding(problem)
                reaction = react(problem.refusal, Situation("account", done=frozenset(tried)))
                tried.add(reaction.do)
                accepted = [name for name in ALGORITHMS if name in problem.algorithms]
                if reaction.do == "without contact" and contact:
                    log.warning("%s: an account without contact: %s", self.name, problem.why)
                    contact = ()
                elif reaction.do == "other algorithm" and accepted and not account.uri:
                    log.warning("%s: a key for %s: %s", self.name, accepted[0], problem.why)
                    account = Account(account.directory, new_account_key(accepted[0]))
                    keep_key(account)
                else:
                    raise

    def find(self, account: Account) -> Account:
        """With the URI that the CA knows it by (RFC 8555 section 7.3.1); it makes none.

        Raises:
            Problem: it knows no account with this key, or takes it no more.
        """
        reply = self._post({"onlyReturnExisting": True}, jwk(account))
        status = reply.json().get("status", "valid")
        if status != "valid":  # OpenBao finds those that are over too
            detail = f"the account is {plain(str(status))}"
            raise Problem(reply.url, 403, "unauthorized", detail, asked="account")
        return replace(account, uri=_uri(reply))

    def terms(self) -> str | None:
        """The URL of the CA's terms of service; None: it names none by a text.

        Nothing stops for what is no text: consent is given by agree_tos alone.
        """
        meta = self.directory().get("meta")
        terms = meta.get("termsOfService") if isinstance(meta, dict) else None
        return plain(terms) if terms and isinstance(terms, str) else None

    def accepted(self) -> str | None:
        """What is agreed to, if the CA has terms of service.

        Raises:
            ConfigError: they are not accepted.
        """
        terms = self.terms()
        if terms and not self._agreed:
            raise ConfigError(
                f"the terms of service of {self.name} are not accepted",
                f"it makes no account before: {terms}",
                f"read them, then write agree_tos = true in [ca.{self.name}]",
            )
        return terms

    def other_terms(self, account: Account) -> str | None:
        """The URL of those that the CA has now, unless it is noted that they were accepted."""
        terms = self.terms()
        return terms if terms != account.terms else None

    def _new_account(self, account: Account, contact: tuple[str, ...], mac_key: bytes) -> str:
        """The account's URI."""
        payload: dict[str, Any] = {"termsOfServiceAgreed": True} if self._agreed else {}
        key = jwk(account)
        if contact:
            payload["contact"] = list(contact)
        if self._eab:
            url = self.directory()["newAccount"]
            payload["externalAccountBinding"] = binding(self._eab.kid, mac_key, key, url)
        return _uri(self._post(payload, key))

    def _mac_key(self) -> bytes:
        if self._eab is None:
            return b""
        try:
            return identifiers.mac_key(self._eab.hmac.fetch())
        except ConfigError as error:
            what = f"eab.hmac of [ca.{self.name}] cannot be used: {error.what}"
            raise ConfigError(what, error.why, error.next) from None

    def _about_binding(self, problem: Problem) -> str:
        """What to do, if it may lie with the binding to a customer's account; else ""."""
        if problem.transient or problem.type not in _ABOUT_BINDING:
            return ""
        if self._eab:
            return (
                f"check eab in [ca.{self.name}]: kid and hmac as the CA gave them, neither expired "
                f"nor used before; then `certd account register {self.name}`"
            )
        if problem.type == "externalAccountRequired":
            return (
                'get a key from the CA for its customers, and write eab = { kid = "…", '
                f'hmac = {{ file = "…" }} }} in [ca.{self.name}]'
            )
        return ""

    def _post(self, payload: Mapping[str, Any], key: josepy.JWK) -> Reply:
        url = self.directory()["newAccount"]
        return self._network.post(url, json.dumps(payload).encode(), key, None)


def _uri(reply: Reply) -> str:
    uri = reply.headers.get("location")
    if not is_url(uri):  # it is signed with, kept and shown, but never asked for
        raise CAError(
            "the CA made an account without saying where",
            "no Location header, or no URL in it",
        )
    return uri
