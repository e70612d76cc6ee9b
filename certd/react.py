"""What a CA's refusal means: what is done next, who waits, and whether another CA is asked.

PURE: the table of certd's reactions to the types of RFC 8555 section 6.7 and RFC 9773
section 5, after what Let's Encrypt asks of clients. Who speaks with the CA acts on ``do``
within an attempt; the reconciler acts on the rest when the attempt has failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, get_args

Do = Literal[
    "again",  # the same request, after ``wait``
    "look",  # at the order: our picture of it is old
    "without replaces",  # the order once more, replacing nothing
    "without lifetime",  # the same without notAfter: many CAs take none
    "fallback profile",  # the same with the other profile
    "without contact",  # the account once more, without a way to reach us
    "other algorithm",  # the account once more, with a key for what the CA accepts
    "new key",  # another order with another key
    "end",  # the attempt has failed
]
# The requests that the same refusal means different things for.
Asked = Literal["account", "new order", "order", "authorization", "finalize", "certificate"]

TRIES = 3  # repetitions of one request within seconds
PATIENCE = 60.0  # seconds: longer waits are not for one attempt
PAUSED = timedelta(hours=1)  # the least that is waited where a limit's end is not said
DAILY = timedelta(days=1)  # between attempts that only somebody else's change can help
TWICE = 2  # failures in a row before what may as well lie with us is taken to lie with the CA


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a CA said, or something in its place.

    ``type`` is the ACME error without its URN prefix, "" where the answer was no problem
    document; ``status`` is None where there was no answer, or none is told.
    ``retry_after`` is in seconds. ``validation``: it is the error of a challenge, not the
    answer to a request. ``untrusted``: of its HTTPS certificate, not of the CA.
    ``page``: it names one where the operator can do something about it, and no time.
    """

    type: str
    status: int | None = None
    retry_after: float | None = None
    subproblems: tuple[str, ...] = ()  # their types
    validation: bool = False
    untrusted: bool = False
    page: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What was going on when it was said."""

    asked: Asked = "order"
    replaces: bool = False  # the order names the certificate that it replaces
    troubles: int = 1  # refusals in a row within this attempt, this one included
    done: frozenset[str] = frozenset()  # of ``Do``: what this attempt has tried already
    failures: int = 1  # of this certificate in a row, this attempt included
    left: timedelta | None = None  # of the certificate that is served; None: there is none
    # Whether another CA of the certificate's is, by the names' CAA records; None: not known.
    allowed: bool | None = False
    lifetime: bool = False  # the order says how long the certificate is to be valid
    fallback: bool = False  # there is another profile that it may ask for


@dataclass(frozen=True, slots=True)
class Reaction:
    """``wait`` is the least until the next attempt, beside the back-off.

    ``lost``: the order is over, and the next attempt makes another. ``stop``: there is no
    next attempt before the operator acts. ``everyone``: it concerns the account, so all
    certificates stay away from this CA. ``fail_over``: the next CA may be asked at once.
    ``other_challenge``: another kind of challenge may do, at once.
    """

    do: Do = "end"
    wait: timedelta = timedelta(0)
    lost: bool = False
    stop: bool = False
    everyone: bool = False
    fail_over: bool = False
    other_challenge: bool = False
    advice: str = ""  # for the operator, where the CA gives none

    @property
    def gravity(self) -> tuple[bool, bool, timedelta, bool]:
        return self.everyone, self.stop, self.wait, self.lost


_CONTACT = Reaction(stop=True, everyone=True, advice="correct contact in [certd]")
_ACCOUNT = Reaction(stop=True, everyone=True, fail_over=True)
_PAUSED = Reaction(
    stop=True,
    fail_over=True,
    advice="go to the page that the CA names; then `certd renew` the certificate",
)
# What a request is signed with, not what a certificate is wanted for.
_ACCOUNT_KEY = replace(
    _ACCOUNT,
    stop=False,
    wait=DAILY,
    advice="it accepts our account's key no more: give it another, with `certd account rollover`",
)
# By type: what is left when nothing can be tried at once.
_MALFORMED = Reaction(
    lost=True, stop=True, fail_over=True, advice="please report it: certd must not ask so"
)
_TABLE = {
    "malformed": _MALFORMED,
    "invalidProfile": Reaction(
        lost=True, wait=DAILY, fail_over=True, advice="name a profile that this CA has"
    ),
    "unauthorized": Reaction(lost=True),
    "incorrectResponse": Reaction(lost=True),
    "connection": Reaction(lost=True),
    "tls": Reaction(lost=True),
    "dns": Reaction(lost=True),
    "dnssec": Reaction(lost=True, wait=DAILY, advice="tell who runs the zone: its DNSSEC is wrong"),
    "caa": Reaction(lost=True, wait=DAILY, advice="let the name's CAA records allow this CA"),
    "rejectedIdentifier": Reaction(lost=True, stop=True, fail_over=True),
    "unsupportedIdentifier": Reaction(lost=True, stop=True, fail_over=True),
    "alreadyReplaced": Reaction(lost=True),
    "orderNotReady": Reaction(),
    "badCSR": Reaction(lost=True, wait=DAILY, fail_over=True),
    "badPublicKey": Reaction(lost=True, wait=DAILY, fail_over=True),
    "badSignatureAlgorithm": replace(_ACCOUNT, stop=False, wait=DAILY),
    "accountDoesNotExist": replace(_ACCOUNT, stop=False, wait=DAILY),
    "externalAccountRequired": replace(
        _ACCOUNT, advice="this CA makes accounts for its customers only: write eab in its table"
    ),
    "userActionRequired": _ACCOUNT,
    "invalidContact": _CONTACT,
    "unsupportedContact": _CONTACT,
}
_OF_AN_ORDER = frozenset({"order", "authorization", "certificate"})
# What the CA saw of us: its view may be wrong as well as our web server or DNS.
_VIEW = frozenset({"unauthorized", "incorrectResponse", "connection", "tls", "dns"})
# Of those, what another port or protocol may be better at: a name is looked up for each.
_WAY = _VIEW - {"dns"}


def conclude(refusal: Refusal, situation: Situation) -> Reaction:
    """The reaction when the attempt is over, whatever might have been tried within it."""
    return react(refusal, replace(situation, troubles=TRIES + 1, done=frozenset(get_args(Do))))


def react(refusal: Refusal, situation: Situation) -> Reaction:
    """The reaction to one refusal in one situation."""
    if refusal.type == "compound" and refusal.subproblems:
        # The gravest of its parts: whatever helps against that is needed in any case.
        parts = (
            react(replace(refusal, type=kind, subproblems=()), situation)
            for kind in refusal.subproblems
        )
        return max(parts, key=lambda part: part.gravity)
    if refusal.validation:
        failed = _known(refusal.type, situation) or Reaction()
        seen = refusal.type in _VIEW and situation.failures >= TWICE
        return replace(
            failed,
            lost=True,
            fail_over=failed.fail_over or seen,
            other_challenge=refusal.type in _WAY,
        )
    if (once := _at_once(refusal, situation)) and once not in situation.done:
        return Reaction(once)
    if refusal.type == "rateLimited":
        return _limited(refusal, situation)
    if passing(refusal):
        return _passed(refusal, situation)
    found = _known(refusal.type, situation)
    if situation.asked == "account" and refusal.type in ("unauthorized", "malformed"):
        return _ACCOUNT if refusal.type == "unauthorized" else replace(_MALFORMED, everyone=True)
    if situation.asked in _OF_AN_ORDER and not (found and found.everyone):
        # The CA does not know it any more. A page of somebody in between does not say so.
        return Reaction(lost=bool(refusal.type) or refusal.status in (404, 410))
    if found:
        return found
    # A word that no standard has, or no word of the CA's at all: nothing is known to help.
    word = bool(refusal.type)
    return Reaction(lost=word, wait=DAILY if word else timedelta(0), fail_over=True)


def _known(kind: str, situation: Situation) -> Reaction | None:
    """What the table has for it, in this situation."""
    if kind == "badPublicKey" and situation.asked != "finalize":
        return _ACCOUNT_KEY
    found = _TABLE.get(kind)
    if found is None or kind != "caa":
        return found
    if situation.allowed is None:
        # Perhaps mended already: the usual back-off, and whoever is left when time is short.
        short = situation.left is not None and situation.left <= DAILY
        return replace(found, wait=timedelta(0), fail_over=short)
    return replace(found, fail_over=situation.allowed)


def _at_once(refusal: Refusal, situation: Situation) -> Do | None:
    """What may help without waiting, once in an attempt."""
    new = situation.asked == "new order"
    ordering = new and situation.replaces
    match refusal.type:
        # First what is a wish only: `replaces` is worth more, as it lifts CAs' limits.
        case "malformed" | "unsupported" if new and situation.lifetime:
            return "without lifetime"
        case "invalidProfile" if new and situation.fallback:
            return "fallback profile"
        case "alreadyReplaced" | "malformed" | "unauthorized" if ordering:
            return "without replaces"
        case "" if ordering and refusal.status in (400, 403, 404, 409):
            return "without replaces"
        case "orderNotReady":
            return "look"
        case "badCSR" | "badPublicKey" if situation.asked == "finalize":
            return "new key"
        case "invalidContact" | "unsupportedContact" if situation.asked == "account":
            return "without contact"
        case "badSignatureAlgorithm" | "badPublicKey" if situation.asked == "account":
            return "other algorithm"
    return None


def passing(refusal: Refusal) -> bool:
    """Whether the same request may well succeed later, with nothing changed."""
    if refusal.status is None:
        return not refusal.untrusted
    return (
        refusal.status >= 500
        or refusal.status == 429
        or refusal.type in ("badNonce", "rateLimited", "serverInternal")
    )


def _passed(refusal: Refusal, situation: Situation) -> Reaction:
    """Again within seconds, some times; then the back-off, or another CA meanwhile."""
    asked = refusal.retry_after
    wait = float(1 << (situation.troubles - 1)) if asked is None else asked
    if situation.troubles <= TRIES and wait <= PATIENCE:
        return Reaction("again", timedelta(seconds=wait))
    ordering = situation.asked == "new order" and situation.replaces
    if ordering and (refusal.status or 0) >= 500 and "without replaces" not in situation.done:
        return Reaction("without replaces")  # a CA may fall over it too
    return Reaction(wait=timedelta(seconds=asked or 0), fail_over=True)


def _limited(refusal: Refusal, situation: Situation) -> Reaction:
    if refusal.retry_after is None and refusal.page:
        # Let's Encrypt's "paused": whatever fails for months, until somebody says on that page
        # that it is mended. https://letsencrypt.org/docs/rate-limits/
        return _PAUSED
    if refusal.retry_after is None:
        return Reaction(wait=PAUSED, fail_over=situation.left is None or situation.left <= DAILY)
    wait = timedelta(seconds=refusal.retry_after)
    if refusal.retry_after <= PATIENCE and situation.troubles <= TRIES:
        return Reaction("again", wait)
    return Reaction(wait=wait, fail_over=situation.left is None or situation.left <= wait)
