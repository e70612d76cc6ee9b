"""What a CA offers (RFC 8555): directory, account, order, authorization, challenge, certificate.

The only room that knows ``acme`` and ``josepy``: what leaves it are the frozen values of
``certd.ca.resources``. Each method is one exchange with the CA; who waits, and how long,
is decided by the caller.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import josepy

from certd.ca.account import AccountBook, OurAccount
from certd.ca.issuer import Refused
from certd.ca.net import Network, Reply
from certd.ca.problem import Problem
from certd.ca.registration import Registration
from certd.ca.resources import (
    CAAuthorization,
    CAChallenge,
    CAOrder,
    Download,
    alternates,
    read_authorization,
    read_order,
)
from certd.config import EABSettings
from certd.errors import CAError, plain
from certd.model import Identifier
from certd.secrets import Secret

log = logging.getLogger(__name__)

REQUIRED = ("newNonce", "newAccount", "newOrder")  # of a directory
DIRECTORY_AGE = 3600.0  # seconds after which the directory is fetched again
UNANSWERED_AGE = 60.0  # seconds for which the one before holds where there was no answer
MOST_PROFILES = 50  # of a directory: more are not asked for by anybody
MOVED = (404, 405, 410)  # HTTP status of what may only be somewhere else by now


class Client:
    """One account at one CA; shared by all threads."""

    def __init__(
        self,
        name: str,
        directory: str,
        network: Network,
        accounts: AccountBook,
        contact: tuple[str, ...] = (),
        monotonic: Callable[[], float] = time.monotonic,
        *,
        agreed: bool = False,
        preferred_chain: str | None = None,
        roots: Path | None = None,
        eab: EABSettings | None = None,
    ) -> None:
        """``agreed``: the CA's terms of service are accepted. ``roots``: what the chains of
        its certificates lead to, beside this machine's roots.
        """
        self.name = name
        self.preferred_chain = preferred_chain
        self.roots = roots
        self.directory_url = directory
        self._network = network
        network.tell_apart([directory])
        registration = Registration(
            name, directory, self.directory, network, contact, agreed=agreed, eab=eab
        )
        self.account = OurAccount(registration, network, accounts, monotonic)
        self._monotonic = monotonic
        self._directory: Mapping[str, Any] = {}
        self._directory_until = 0.0
        self._lock = threading.RLock()

    def directory(self) -> Mapping[str, Any]:
        """The CA's directory (RFC 8555 section 7.1.1), at most an hour old.

        While another is fetched, and for as long as there is no answer, the one before
        holds: where to ask changes far more rarely than a CA falls silent.
        """
        known = self._directory
        if known and self._monotonic() < self._directory_until:
            return known
        if not known:
            self._network.spare(self.directory_url)
        if not self._lock.acquire(blocking=not known):
            return known
        try:
            known = self._directory  # who had the lock may have fetched it
            if known and self._monotonic() < self._directory_until:
                return known
            return self._renewed_directory(known)
        finally:
            self._lock.release()

    def _renewed_directory(self, known: Mapping[str, Any]) -> Mapping[str, Any]:
        """Fetched now; or ``known``, the one before, if there is no answer."""
        self._network.trust(self.directory_url)
        try:
            directory = self._fetch_directory()
        except Problem as problem:
            if problem.status or problem.untrusted or not known:
                raise
            log.warning("%s: the directory of before holds: %s", self.name, problem)
            self._directory_until = self._monotonic() + UNANSWERED_AGE
            return known
        for resource in REQUIRED:
            if not isinstance(directory.get(resource), str):
                raise CAError(
                    f"{self.directory_url} is no ACME directory",
                    f"it lacks {resource}",
                    f"correct directory in [ca.{self.name}]",
                )
        urls = [url for url in directory.values() if isinstance(url, str)]
        urls = [url for url in urls if url.startswith("https://")]
        for url in urls:
            self._network.trust(url)
        for resource in REQUIRED:  # before it is kept for an hour
            self._network.check(directory[resource])
        self._network.tell_apart([self.directory_url, *urls])
        self._network.new_nonce_url = directory["newNonce"]
        self._directory = directory
        self._directory_until = self._monotonic() + DIRECTORY_AGE
        return directory

    def _fetch_directory(self) -> Mapping[str, Any]:
        hint = f"check directory in [ca.{self.name}]"
        try:
            return self._network.get(self.directory_url).json()
        except Problem as problem:
            if problem.transient or problem.status is None:
                raise
            # No Problem: to whoever asked for an order, it would be a refusal of that order.
            raise CAError(problem.what, problem.why, hint) from problem
        except CAError as error:
            raise CAError(error.what, error.why, hint) from error

    def clock_ahead(self) -> timedelta:
        """By how much this machine's clock is ahead of the CA's, by its last answer's Date."""
        self.directory()
        return self._network.clock_ahead

    @property
    def offers_renewal_info(self) -> bool:
        return isinstance(self.directory().get("renewalInfo"), str)

    def caa_identities(self) -> tuple[str, ...] | None:
        """The domain names by which CAA records allow this CA (RFC 8555 section 7.1.1).

        Empty where it does not tell them; None: whatever CAA records say is nothing to it.
        """
        meta = self.directory().get("meta")
        names = meta.get("caaIdentities") if isinstance(meta, dict) else None
        return tuple(name for name in names or () if isinstance(name, str))

    def profiles(self) -> tuple[str, ...]:
        """The names of its profiles (draft-ietf-acme-profiles section 3); empty: it has none."""
        meta = self.directory().get("meta")
        listed = meta.get("profiles") if isinstance(meta, dict) else None
        names = listed if isinstance(listed, dict) else ()
        return tuple(sorted(map(plain, names))[:MOST_PROFILES])

    def ask_directory_again(self) -> None:
        """What it says may have changed; as long as there is no answer, it holds as it is."""
        self._directory_until = 0.0

    def new_order(
        self,
        identifiers: tuple[Identifier, ...],
        replaces: str | None,
        profile: str | None = None,
        not_after: datetime | None = None,
    ) -> CAOrder:
        """RFC 8555 section 7.4, with ``replaces`` of RFC 9773 section 5.

        ``profile``: draft-ietf-acme-profiles section 4.
        """
        payload: dict[str, Any] = {
            "identifiers": [{"type": name.type, "value": name.value} for name in identifiers]
        }
        if replaces and self.offers_renewal_info:
            payload["replaces"] = replaces
        if profile:
            payload["profile"] = profile
        if not_after:
            payload["notAfter"] = f"{not_after:%Y-%m-%dT%H:%M:%SZ}"
        reply = self._post(self.directory()["newOrder"], payload)
        reply.json()  # a page of somebody in between has no Location either
        url = reply.headers.get("location")
        if not url:
            raise CAError("the CA made an order without saying where", "no Location header")
        # Before it is kept: an order that may never be asked for would block all others.
        self._network.check(url)
        return read_order(url, reply)

    def order(self, url: str) -> CAOrder:
        return read_order(url, self._post(url, None))

    def authorization(self, url: str) -> CAAuthorization:
        reply = self._post(url, None)
        return read_authorization(reply, self.account.key(), self.account.uri())

    def answer(self, challenge: CAChallenge) -> float | None:
        """Tell the CA to look (RFC 8555 section 7.5.1); the seconds it asks us to wait, if any.

        Not with another key than the one that the answer was made with: it would be wrong.
        """
        made_for = challenge.key_authorization.reveal().rpartition(".")[2]
        return self._post(challenge.url, {}, made_for=made_for).retry_after

    def finalize(self, order: CAOrder, csr_der: bytes) -> CAOrder:
        """RFC 8555 section 7.4. The order's URL stays the one that newOrder gave."""
        payload = {"csr": josepy.encode_b64jose(csr_der)}
        return read_order(order.url, self._post(order.finalize, payload))

    def download(self, url: str) -> Download:
        """A chain as the CA sends it, unchecked, and where others are (RFC 8555 section 7.4.2)."""
        reply = self._post(url, None, accept="application/pem-certificate-chain")
        return Download(reply.body.decode("utf-8", "replace"), alternates(reply))

    def revoke(self, leaf_der: bytes, reason: int, key_pem: Secret | None = None) -> None:
        """RFC 8555 section 7.6: signed by our account, or by the certificate's own key.

        ``reason`` is a number of RFC 5280 section 5.3.1; 0, unspecified, is not sent.
        """
        url = self.directory().get("revokeCert")
        if not isinstance(url, str):
            raise Refused(
                f"{self.name} does not revoke over ACME",
                "its directory has no revokeCert",
                "ask its support, or revoke on its web pages",
            )
        payload: dict[str, Any] = {"certificate": josepy.encode_b64jose(leaf_der)}
        if reason:
            payload["reason"] = reason
        if key_pem is None:
            self._post(url, payload)
            return
        key = josepy.JWK.load(key_pem.reveal().encode())
        self._network.post(url, json.dumps(payload).encode(), key, None)

    def renewal_info(self, ari_id: str) -> Reply:
        """The raw answer (RFC 9773 section 4.1); ``certd.ca.ari`` reads it."""
        return self._network.get(f"{self.directory()['renewalInfo'].rstrip('/')}/{ari_id}")

    def check_account(self) -> None:
        """Raise Problem unless the CA takes our account for valid."""
        self.directory()
        self.account.check()

    def _post(
        self, url: str, payload: Mapping[str, Any] | None, accept: str = "", made_for: str = ""
    ) -> Reply:
        """``None`` is a POST-as-GET; an empty mapping is sent as ``{}``."""
        try:
            return self._post_registered(url, payload, accept, made_for)
        except Problem as problem:
            if problem.status in MOVED:
                # The next exchange asks where things are now.
                self._directory, self._directory_until = {}, 0.0
            raise

    def _post_registered(
        self, url: str, payload: Mapping[str, Any] | None, accept: str, made_for: str
    ) -> Reply:
        self.directory()  # a resumed order asks for nothing else that would fetch it
        body = b"" if payload is None else json.dumps(payload, separators=(",", ":")).encode()
        return self.account.post(url, body, accept, made_for)
