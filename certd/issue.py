"""One order, from newOrder to a checked certificate in the store (RFC 8555 section 7.1).

``Issuance.advance`` does the next step and says when to look again; it never waits. What
must survive a crash is in the store before the CA is asked for the next thing: key and
CSR, then the order's URL, then finalize. Everything else is read from the CA again, so
that the daemon, the one-shot command and the recovery after a crash are the same code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, MutableMapping
from datetime import datetime

from certd import chains, ordering, x509
from certd.authorize import CHECKING, Authorizations, OrderFailed
from certd.ca.issuer import Issuer
from certd.ca.problem import NoJSON, Problem
from certd.ca.resources import CAOrder
from certd.errors import BadCertificate, CAError
from certd.failpoint import failpoint
from certd.known import Order
from certd.looks import AFTER_FINALIZE, DNS_LOOKS, EARLY, LOOKS, OLD, Look
from certd.model import CertificateSpec, Identifier
from certd.ordering import Say
from certd.react import TRIES, Asked, Do, Situation, react
from certd.showing import Publisher, clean_up
from certd.store import Store
from certd.troubles import Troubles

log = logging.getLogger(__name__)


class Issuance:
    """An order under way in this process. Not thread-safe: one thread at a time advances it."""

    def __init__(
        self,
        order: Order,
        spec: CertificateSpec,
        challenge: str,
        client: Issuer,
        store: Store,
        publisher: Publisher,
        awaited: MutableMapping[str, Authorizations],
        clock: Callable[[], datetime],
        say: Say,
    ) -> None:
        """``challenge`` is by what the names are proved; ``awaited`` gets the authorizations,
        under each token that they publish.
        """
        self.order = order
        self.authorizations = Authorizations(
            order.name, challenge, client, store, publisher, awaited, clock
        )
        self._spec = spec
        self._client = client
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._say = say
        self._url = order.url
        self._replaces = order.replaces
        self._begun = clock()
        self._looks = 0
        self._asked: Asked = "order"  # what the CA is being asked for
        self.troubles = Troubles()
        # What helps once at most; a key that is not ours cannot be replaced.
        self._tried: set[Do] = {"new key"} if spec.csr else set()
        # Whether an earlier process began it and this one has not got anywhere with it yet.
        self.inherited = self._resumed = order.url is not None

    def advance(self) -> Look | None:
        """Do what can be done now; None when the certificate is in the store.

        An exchange that failed for a passing reason, or was answered with what is no
        answer, is repeated soon, ``TRIES`` times.

        Raises:
            OrderFailed: the order is lost; the next attempt makes another.
            CAError, ChallengeError: this attempt failed; the order goes on after a back-off.
        """
        try:
            look = self._step()
        except Problem as problem:
            return self._react(problem)
        except (BadCertificate, NoJSON) as error:
            return self._again(error)
        self.troubles.over()
        self.inherited = False
        return look

    def _react(self, problem: Problem) -> Look:
        """Go on as the table of reactions says, or end the attempt."""
        asked, count = problem.asked or self._asked, self.troubles.count(problem.url)
        situation = Situation(
            asked,
            bool(self._replaces),
            count,
            frozenset(self._tried),
            lifetime=self.order.lifetime is not None,
            fallback=self._fallback() is not None,
        )
        reaction = react(problem.refusal, situation)
        self._tried.add(reaction.do)
        match reaction.do:
            case "again":
                self._check_age(problem)
                log.info("%s: trying again in %s: %s", self.order.name, reaction.wait, problem)
                return Look(reaction.wait.total_seconds())
            case "look":
                return Look(LOOKS[0])
            case "without replaces":
                log.warning("%s: ordering without 'replaces': %s", self.order.name, problem.why)
                self._store.orders.without_replaces(self.order)
                self._replaces = None
                failpoint("issue: replaces is left out")
                return Look(0.0)
            case "without lifetime":
                text = f"{self._client.name} takes no lifetime: ordering what it gives"
                log.warning("%s: %s: %s", self.order.name, text, problem.why)
                self._say(self.order.name, text)
                self.order = self._store.orders.without_lifetime(self.order)
                failpoint("issue: lifetime is left out")
                return Look(0.0)
            case "fallback profile":
                text = f"ordering profile {self._fallback()} instead of {self.order.profile}"
                log.warning("%s: %s: %s", self.order.name, text, problem.why)
                self._say(self.order.name, text)
                self.order = self._store.orders.with_profile(self.order, self._fallback())
                self._client.ask_directory_again()
                failpoint("issue: another profile is kept")
                return Look(0.0)
            case "new key":
                log.warning("%s: finalizing with another key: %s", self.order.name, problem.why)
                refused = x509.pin(self.order.key_pem)
                self.order = self._store.orders.with_new_key(
                    self.order, *ordering.another_key(self.order)
                )
                self._store.next_keys.drop(self.order.name, refused)
                failpoint("issue: another key is kept")
                return Look(0.0)
        if problem.type in ("unauthorized", "malformed") and asked == "new order":
            self._client.check_account()
        problem.asked = asked
        if problem.type == "invalidProfile":
            self._client.ask_directory_again()
            problem.next = problem.next or ordering.advise(self.order.name, self._client)
        if reaction.lost:
            raise OrderFailed(
                problem.what, problem.why, problem.next, problem.refusal, asked
            ) from problem
        raise problem

    def _fallback(self) -> str | None:
        """The profile that may be asked for in place of the order's."""
        asked, fallback = self.order.profile, self._spec.fallback_profile
        return fallback if asked and asked == self._spec.profile else None

    def age(self) -> float:
        """Seconds since this process took the order up."""
        return (self._clock() - self._begun).total_seconds()

    def _check_age(self, problem: Problem) -> None:
        """A CA that is there, and has been unable for days to say what became of the order."""
        if (problem.status or 0) >= 500 and self._clock() - self.order.created_at > OLD:
            raise OrderFailed(
                f"the order is from {self.order.created_at:%F}, and the CA does not show it",
                problem.why,
            ) from problem

    def _again(self, error: CAError) -> Look:
        """The same once more, for what should never have come."""
        count = self.troubles.count()
        if count > TRIES:
            raise error
        wait = float(1 << (count - 1))
        log.info("%s: trying again in %.0f s: %s", self.order.name, wait, error)
        return Look(wait)

    def _step(self) -> Look | None:
        if self.authorizations.looking():
            return self._looking()
        order = self._create() if self._url is None else self._fetch(self._url)
        self._asked = "authorization"
        if order.identifiers and order.identifiers != set(self.order.identifiers):
            raise OrderFailed(
                "the CA's order is for other names",
                f"asked for {_names(self.order.identifiers)}, got {_names(order.identifiers)}",
            )
        if order.status == "pending":
            wait = self.authorizations.advance(order)
            if self.authorizations.looking():
                return self._looking()
            self.troubles.progress |= self.authorizations.answered_first
            if wait is None and self.authorizations.answered_first:
                return Look(EARLY, hurry=True)
            return self._wait(order, wait)
        if order.status == "ready":
            order = self._finalize(order)
            if order.status == "processing":
                # One early look: most CAs need milliseconds. Then as they ask.
                return Look(AFTER_FINALIZE)
        if order.status == "valid" and order.certificate:
            self._download(order.certificate)
            return None
        if order.status == "invalid":
            raise OrderFailed("the CA gave the order up", self.authorizations.reason(order))
        return self._wait(order, order.retry_after)

    def _looking(self) -> Look:
        """A record may take minutes, and who waits for it tells when it is to be seen."""
        return Look(DNS_LOOKS, hurry=True) if self.authorizations.by_dns else Look(CHECKING)

    def patience(self) -> float:
        """Seconds that our own looks may last."""
        return self._publisher.patience(self.order.name) if self.authorizations.by_dns else 0.0

    # -- order -----------------------------------------------------------------------------

    def _create(self) -> CAOrder:
        self._asked = "new order"
        lifetime = self.order.lifetime
        order = self._client.new_order(
            self.order.identifiers,
            self._replaces,
            self.order.profile,
            self._clock() + lifetime if lifetime else None,
        )
        failpoint("issue: order made")
        self._store.orders.keep_url(self.order, order.url)
        self._url = order.url
        failpoint("issue: order URL is kept")
        self.troubles.progress = True
        self._say(self.order.name, f"order made at {self._client.name}")
        return order

    def _fetch(self, url: str) -> CAOrder:
        self._asked = "order"
        return self._client.order(url)

    # -- certificate -----------------------------------------------------------------------

    def _finalize(self, order: CAOrder) -> CAOrder:
        if self.order.finalizing is None:
            self.order = self._store.orders.keep_finalizing(self.order, 0)
        else:  # its key may have been given up since
            self._store.orders.refuse_compromised(self.order.csr_pem)
        failpoint("issue: about to finalize")
        self._asked = "finalize"
        try:
            order = self._client.finalize(order, x509.csr_der(self.order.csr_pem))
        except Problem as problem:
            if problem.transient or problem.type == "orderNotReady":
                raise
            # It may have been done all the same: something on the way refused, not the CA.
            order = self._fetch(order.url)
            if order.status not in ("processing", "valid"):
                self._asked = "finalize"
                raise
        self.troubles.progress = True
        failpoint("issue: finalized")
        validated = "names validated, " if order.authorizations else ""
        self._say(self.order.name, f"{validated}certificate asked for")
        self._looks = 0
        return order

    def _download(self, url: str) -> None:
        self._asked = "certificate"
        now, patient = self._clock(), self.troubles.in_a_row < TRIES
        got = chains.fetch(self._client, url, self.order, self._spec, now, patient=patient)
        failpoint("issue: certificate downloaded")
        number = self._store.orders.complete(self.order, *got.parts, now)
        failpoint("issue: version is current")
        until = f"{got.facts.not_after:%F}{got.note}"
        self._say(self.order.name, f"version {number} issued, valid until {until}")
        published = None if self._resumed else self.authorizations.published
        clean_up(self.order.name, self._store, self._publisher, published)

    def _wait(self, order: CAOrder, retry_after: float | None) -> Look:
        """As the CA asks; by our own schedule where it does not say; until it expires."""
        # Once it is being processed, a CA need not say when it expires (section 7.1.3).
        expires = order.expires or self.order.created_at + OLD
        if expires <= self._clock():
            raise OrderFailed(
                f"the order expired while it was {order.status}",
                f"{self._client.name} did not come to an end with it",
            )
        step = LOOKS[min(self._looks, len(LOOKS) - 1)]
        self._looks += 1
        return Look(step if retry_after is None else max(retry_after, LOOKS[0]))


def _names(identifiers: Iterable[Identifier]) -> str:
    return ", ".join(sorted(item.value for item in identifiers))
