"""The authorizations of one order: journaled, published, answered, looked at (RFC 8555
section 7.5).

Asks and answers; who waits, and how long, is decided by ``certd.issue``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping, Sized
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from datetime import datetime

from certd.ca.issuer import Issuer
from certd.ca.problem import Problem
from certd.ca.resources import CAAuthorization, CAChallenge, CAOrder
from certd.errors import CAError, ChallengeError, ProviderError
from certd.failpoint import failpoint
from certd.model import BY_DNS, Identifier
from certd.react import Asked, Refusal
from certd.showing import Publisher
from certd.store import Store

log = logging.getLogger(__name__)

TLS_ALPN = "tls-alpn-01"
CHECKED = 0.5  # seconds after publishing in which our own looks mostly come to an end
CHECKING = 0.5  # seconds until it is asked again whether they have
TRIES = 3  # answers to one challenge within seconds, before a back-off


class OrderFailed(CAError):
    """The order came to nothing; only another one can help. ``refusal``: the CA's word."""

    def __init__(
        self,
        what: str,
        why: str = "",
        next: str = "",
        refusal: Refusal | None = None,
        asked: Asked = "order",
        invalid: tuple[Identifier, ...] = (),
    ) -> None:
        """``invalid``: whose validation failed."""
        super().__init__(what, why, next)
        self.refusal = refusal
        self.asked = asked
        self.invalid = invalid


class Authorizations:
    """Of an order under way in this process. One thread at a time advances them."""

    def __init__(
        self,
        name: str,
        challenge: str,
        client: Issuer,
        store: Store,
        publisher: Publisher,
        awaited: MutableMapping[str, Authorizations],
        clock: Callable[[], datetime],
    ) -> None:
        """``awaited`` is where they enter themselves under each token that they publish."""
        self.name = name
        self.challenge = challenge
        self._client = client
        self._store = store
        self._publisher = publisher
        self._awaited = awaited
        self._clock = clock
        self._valid: set[str] = set()  # URLs of authorizations that need no more looks
        self._answers: dict[str, int] = {}  # challenge URL -> times that this process answered
        self._checks: list[Future[None]] = []  # our own looks, under way
        self.by_dns = challenge in BY_DNS  # who looks there tells when it is done
        self._checked: list[CAChallenge] = []  # to be answered when those have gone well
        self.published: list[str] = []  # tokens
        self.unseen: set[str] = set()  # tokens that the CA has yet to fetch
        self.answered_first = False  # whether the last look gave the CA its first answers

    def advance(self, order: CAOrder) -> float | None:
        """Publish and answer what is still open; on later looks, see what became of it.

        Returns the seconds that the CA asks to wait, None where it does not say.

        Raises:
            OrderFailed: the CA has given an authorization up.
            CAError, ChallengeError: this attempt failed; the order goes on after a back-off.
        """
        if self._checked:
            return self._answer_all(0.0)
        found = []
        for url in order.authorizations:
            if url not in self._valid:
                found.append(self._client.authorization(url))
                if found[-1].status == "valid":
                    self._valid.add(url)
        if refused := [item for item in found if item.status not in ("valid", "pending")]:
            raise self._refused(refused)
        todo = [
            (item.identifier, challenge)
            for item in found
            if (challenge := self._open_challenge(item))
        ]
        if todo:
            self._publish(todo)
            self._check(todo)
            return self._answer_all(0.0 if self.by_dns else CHECKED)
        self.answered_first = False
        asked = [item.retry_after for item in found if item.retry_after is not None]
        return max(asked, default=order.retry_after)

    def looking(self) -> bool:
        """Whether our own looks are still under way: there is nothing to ask the CA for."""
        over = [check for check in self._checks if check.done()]
        failed = any(not check.cancelled() and check.exception() for check in over)
        return not failed and len(over) < len(self._checks)

    def _open_challenge(self, authorization: CAAuthorization) -> CAChallenge | None:
        """The challenge that we still have to answer, if any."""
        if authorization.status == "valid":
            return None
        for challenge in authorization.challenges:
            if challenge.type == self.challenge:
                return challenge if self._wants_answer(challenge, authorization) else None
        offered = ", ".join(item.type for item in authorization.challenges) or "none"
        raise ChallengeError(
            f"the CA offers no {self.challenge} for {authorization.identifier}",
            f"it offers {offered}",
            "choose another challenge for this certificate",
        )

    def _wants_answer(self, challenge: CAChallenge, authorization: CAAuthorization) -> bool:
        """Once, unless the CA has looked in vain and waits to be told to look again.

        A challenge may stay pending until the CA has looked, and an answer too many would be
        another attempt. One that failed may stay pending too, with an error, to be answered
        again (RFC 8555 section 8.2): ``TRIES`` times, then after a back-off.
        """
        times = self._answers.get(challenge.url, 0)
        if challenge.status != "pending" or (times and not challenge.error):
            return False
        if times > TRIES:
            refused = self._refused([authorization])
            raise ChallengeError(refused.what, refused.why, refused.next)
        return True

    def _refused(self, refused: list[CAAuthorization]) -> OrderFailed:
        """The first of them, and how many more names it is about."""
        authorization = refused[0]
        failed = next((item for item in authorization.challenges if item.error), None)
        error = failed.error if failed else ""
        name = f"{'*.' if authorization.wildcard else ''}{authorization.identifier}"
        return OrderFailed(
            f"the CA could not validate {name}{_more(refused)}",
            error or f"the authorization is {authorization.status}",
            f"check that {self._way(name)} from the internet, then `certd renew {self.name}`",
            failed.refusal if failed else Refusal("", validation=True),
            invalid=tuple(item.identifier for item in refused),
        )

    def _way(self, name: str) -> str:
        if self.by_dns:
            return f"the CA sees what was published in DNS for {name}: all its name servers"
        if self.challenge == TLS_ALPN:
            return f"connections to {name} port 443 with the ALPN protocol acme-tls/1 reach certd"
        return f"http://{name}/ reaches this machine"

    def reason(self, order: CAOrder) -> str:
        """Why an order is invalid: an authorization says more than the order does.

        Raises:
            OrderFailed: an authorization says it.
        """
        refused = []
        for url in order.authorizations:
            try:
                authorization = self._client.authorization(url)
            except Problem as problem:
                if problem.transient:
                    raise
                continue
            if authorization.status not in ("valid", "pending"):
                refused.append(authorization)
        if refused:
            raise self._refused(refused)
        return order.error or "it does not say why"

    def _publish(self, todo: list[tuple[Identifier, CAChallenge]]) -> None:
        """Journaled first: a crash in between leaves nothing that is not cleaned up."""
        if not self.by_dns:  # whose journal has each record, once it is known where it belongs
            self._store.tokens.publish(
                self.name,
                {item.token: item.key_authorization for _, item in todo},
                self._clock(),
                {item.token: host for host, item in todo if item.type == TLS_ALPN},
            )
            failpoint("issue: tokens are kept")
        for host, item in todo:
            self.published.append(item.token)
            self._publisher.publish(host, item)
        failpoint("issue: tokens are published")

    def _check(self, todo: list[tuple[Identifier, CAChallenge]]) -> None:
        self._checked = [challenge for _, challenge in todo]
        checks = [
            self._publisher.check(self.name, self._client.name, host, item) for host, item in todo
        ]
        self._checks = [check for check in checks if check is not None]

    def _answer_all(self, seconds: float) -> float | None:
        """Once our own looks are over, which is waited for so long; none if one went wrong.

        Raises:
            ChallengeError: with what was seen; the CA was told nothing, and counts nothing.
        """
        self.answered_first = False
        looks = wait(self._checks, seconds, FIRST_EXCEPTION)
        errors = [
            error for look in looks.done if not look.cancelled() and (error := look.exception())
        ]
        if errors:
            self.cancel()
            raise self._summed_up(errors)
        if looks.not_done or any(look.cancelled() for look in looks.done):
            return CHECKING
        todo, self._checked = self._checked, []
        self.answered_first = not self._answers
        # Whoever has fetched them before was not the CA, but we ourselves.
        self.unseen = {challenge.token for challenge in todo}
        self._awaited.update(dict.fromkeys(self.unseen, self))
        waits = [self._answer(challenge) for challenge in todo]
        return max((seconds for seconds in waits if seconds is not None), default=None)

    def cancel(self) -> None:
        """Look no further: nobody goes on with the order here."""
        for look in self._checks:
            look.cancel()
        self._checks, self._checked = [], []

    def _summed_up(self, errors: list[BaseException]) -> BaseException:
        """The first of them, and how many more names it is about."""
        first = errors[0]
        if not isinstance(first, ChallengeError | ProviderError):
            return first
        first.what += _more(errors)
        step = f"`certd renew {self.name}`"
        if step not in first.next:
            first.next = f"{first.next}; then {step}" if first.next else f"{step} tries again"
        return first

    def _answer(self, challenge: CAChallenge) -> float | None:
        wait = self._client.answer(challenge)
        # Only now: one that did not get through is given again.
        self._answers[challenge.url] = self._answers.get(challenge.url, 0) + 1
        failpoint("issue: challenge answered")
        return wait


def _more(errors: Sized) -> str:
    return f" (and {len(errors) - 1} more of its names)" if len(errors) > 1 else ""
