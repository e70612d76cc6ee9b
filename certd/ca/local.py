"""Our own CA: its root and intermediate are in the store, and its orders are ready at once.

It answers as an ACME server would, so that what orders, checks, deploys and renews is the
same for both. An order is its URL and, once it has one, the leaf under it: whoever asks
again, after a crash too, gets that leaf and no other.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NoReturn, Protocol

from certd import x509
from certd.ca.issuer import NoRevocation
from certd.ca.net import Reply
from certd.ca.problem import Problem
from certd.ca.resources import CAAuthorization, CAChallenge, CAOrder, Download
from certd.errors import CAError
from certd.failpoint import failpoint
from certd.known import Authority
from certd.model import Identifier, KeyType, Subtree
from certd.secrets import Secret

log = logging.getLogger(__name__)

ROOT_KEY: KeyType = "ec-p384"
INTERMEDIATE_KEY: KeyType = "ec-p256"

Role = Literal["root", "intermediate"]


class AuthorityBook(Protocol):
    """Where they are kept, and what they have signed: the store."""

    def newest(self, ca: str, role: Role) -> Authority | None: ...

    def keep(self, *made: Authority, instead_of: Authority | None) -> bool: ...

    def issued(self, url: str) -> str | None: ...

    def keep_issued(self, url: str, chain_pem: str, not_after: datetime) -> str: ...


def found(
    ca: str,
    label: str,
    permitted: Sequence[Subtree],
    book: AuthorityBook,
    instead_of: Authority | None,
    now: datetime,
) -> bool:
    """Make a root and an intermediate; False: somebody has made another root meanwhile."""
    key = x509.new_key(ROOT_KEY)
    root = _authority(ca, "root", key, x509.new_root(key, label, permitted, now))
    return book.keep(root, _below(root, now), instead_of=instead_of)


class LocalCA:
    """One CA of our own; shared by all threads. An ``Issuer``."""

    def __init__(
        self, name: str, lifetime: timedelta, book: AuthorityBook, clock: Callable[[], datetime]
    ) -> None:
        """``lifetime`` is that of its leaves."""
        self.name = name
        self.directory_url = directory(name)
        self.offers_renewal_info = False
        self.preferred_chain: str | None = None  # there is one, to one's own root
        self.roots: Path | None = None
        self._lifetime = lifetime
        self._book = book
        self._clock = clock

    def caa_identities(self) -> None:
        return None  # its root says what it may sign

    def clock_ahead(self) -> timedelta:
        return timedelta(0)  # it has no other clock

    def profiles(self) -> tuple[str, ...]:
        return ()

    def ask_directory_again(self) -> None:
        """There is none that could have changed."""

    def new_order(
        self,
        identifiers: tuple[Identifier, ...],
        replaces: str | None,
        profile: str | None = None,
        not_after: datetime | None = None,
    ) -> CAOrder:
        """Nothing is kept of it: without a leaf, one order is as good as another.

        Raises:
            Problem: there is no root, it has expired, or it does not permit these names; or
                a lifetime is asked for, which its table alone decides.
        """
        if not_after:
            todo = f"write lifetime in [ca.{self.name}]"
            raise self._refusal("malformed", "its own lifetime holds for all", todo)
        root = self._root()
        if refused := x509.outside(root.certificate_pem, identifiers):
            names = ", ".join(one.value for one in refused)
            verb = "is" if len(refused) == 1 else "are"
            raise self._refusal(
                "rejectedIdentifier",
                f"{names} {verb} not permitted by its root, which is for "
                f"{', '.join(x509.permits(root.certificate_pem))}",
                "use a name that is, or make another root with `certd ca init --replace`",
            )
        return self._order(f"{self.directory_url}/{secrets.token_urlsafe(16)}")

    def order(self, url: str) -> CAOrder:
        return self._order(url, issued=self._book.issued(url) is not None)

    def finalize(self, order: CAOrder, csr_der: bytes) -> CAOrder:
        """Sign, unless it was done already; the leaf is kept before anybody gets it.

        Raises:
            Problem: there is no root, or it has expired.
        """
        if self._book.issued(order.url) is None:
            now = self._clock()
            signer = self._intermediate(now)
            leaf = x509.new_leaf(
                csr_der, signer.certificate_pem, signer.key_pem, self._lifetime, now
            )
            until = x509.facts(x509.read_chain(leaf)[0]).not_after
            self._book.keep_issued(order.url, leaf + signer.certificate_pem, until)
            failpoint("local: leaf is kept")
        return self._order(order.url, issued=True)

    def download(self, url: str) -> Download:
        chain = self._book.issued(url)
        if chain is None:
            raise CAError(f"{self.name} has no certificate for this order", "it has expired")
        return Download(chain, ())

    def revoke(self, leaf_der: bytes, reason: int, key_pem: Secret | None = None) -> None:
        raise NoRevocation(
            f"{self.name} does not revoke",
            "it is certd's own: its leaves are short-lived, and it has no list of what is revoked",
            "`certd renew --force` replaces the certificate; the old one ends by itself",
        )

    def _order(self, url: str, *, issued: bool = False) -> CAOrder:
        return CAOrder(
            url=url,
            status="valid" if issued else "ready",
            identifiers=frozenset(),  # those of our own row, which is all there is of it
            authorizations=(),  # whoever has the store may have every name that is permitted
            finalize=url,
            certificate=url if issued else None,
            error="",
            refusal=None,
            expires=None,
            retry_after=None,
        )

    # -- who signs -------------------------------------------------------------------------

    def _root(self) -> Authority:
        root = self._book.newest(self.name, "root")
        if root is None:
            raise self._refusal(
                "userActionRequired", "it has no root yet", f"`certd ca init{self._named()}`"
            )
        if root.not_after <= self._clock():
            raise self._refusal(
                "userActionRequired",
                f"its root expired at {root.not_after:%F %H:%MZ}",
                f"`certd ca init --replace{self._named()}`, and let the clients trust the new one",
            )
        return root

    def _intermediate(self, now: datetime) -> Authority:
        """The newest, or its successor when a third of its lifetime is left."""
        root = self._root()
        there = self._book.newest(self.name, "intermediate")
        if there is not None:
            renew = there.not_after - (there.not_after - there.not_before) / 3
            # Towards the root's end a successor would live no longer.
            if now < renew or there.not_after >= root.not_after:
                return there
        made = _below(root, now)
        if self._book.keep(made, instead_of=there):
            log.info("%s: another intermediate, valid until %s", self.name, f"{made.not_after:%F}")
        return self._book.newest(self.name, "intermediate") or made

    def _named(self) -> str:
        return "" if self.name == "local" else f" --ca {self.name}"

    def _refusal(self, kind: str, why: str, next: str) -> Problem:
        """As an ACME server would say it, so that the same is made of it."""
        problem = Problem(self.directory_url, 403, kind, why)
        problem.what, problem.why, problem.next = f"{self.name} issues nothing", why, next
        return problem

    # -- what an order that is ready at once never comes to --------------------------------

    def authorization(self, url: str) -> CAAuthorization:
        self._never()

    def answer(self, challenge: CAChallenge) -> float | None:
        self._never()

    def renewal_info(self, ari_id: str) -> Reply:
        self._never()

    def check_account(self) -> None:
        self._never()

    def _never(self) -> NoReturn:
        raise CAError(f"{self.name} is certd's own CA", "it has neither accounts nor challenges")


def directory(name: str) -> str:
    """What stands in the place of a directory URL."""
    return f"local:{name}"


def _below(root: Authority, now: datetime) -> Authority:
    key = x509.new_key(INTERMEDIATE_KEY)
    made = x509.new_intermediate(key, root.certificate_pem, root.key_pem, now)
    return _authority(root.ca, "intermediate", key, made)


def _authority(ca: str, role: Role, key: Secret, certificate_pem: str) -> Authority:
    facts = x509.facts(x509.read_chain(certificate_pem)[0])
    return Authority(ca, role, key, certificate_pem, facts.not_before, facts.not_after)
