"""The table of reactions: from what a CA says, and when, to what is done about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd.react import (
    DAILY,
    PATIENCE,
    PAUSED,
    TRIES,
    Asked,
    Reaction,
    Refusal,
    Situation,
    conclude,
    react,
)

MONTH = timedelta(days=30)
SECOND = timedelta(seconds=1)


def problem(type: str, status: int | None = 403, **more: Any) -> Refusal:
    return Refusal(type, status, **more)


def seen(type: str) -> Refusal:
    """The error of a challenge."""
    return Refusal(type, validation=True)


# -- within an attempt ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "situation", "do", "wait"),
    [
        pytest.param(problem("", 503), Situation(), "again", 1, id="503"),
        pytest.param(problem("", 500), Situation(troubles=3), "again", 4, id="the third 500"),
        pytest.param(problem("", 500), Situation(troubles=4), "end", 0, id="the fourth 500"),
        pytest.param(problem("", None), Situation(), "again", 1, id="no answer"),
        pytest.param(problem("", None, untrusted=True), Situation(), "end", 0, id="not its HTTPS"),
        pytest.param(problem("", 503, retry_after=7), Situation(), "again", 7, id="as it asks"),
        pytest.param(problem("", 503, retry_after=61), Situation(), "end", 61, id="too long"),
        pytest.param(problem("serverInternal", 500), Situation(), "again", 1, id="internal"),
        pytest.param(problem("badNonce", 400), Situation(), "again", 1, id="badNonce"),
        pytest.param(
            problem("rateLimited", 429, retry_after=9), Situation(), "again", 9, id="limited, 9 s"
        ),
        pytest.param(problem("orderNotReady"), Situation("finalize"), "look", 0, id="not ready"),
        pytest.param(
            problem("alreadyReplaced", 409),
            Situation("new order", replaces=True),
            "without replaces",
            0,
            id="alreadyReplaced",
        ),
        pytest.param(
            problem("malformed", 400),
            Situation("new order", replaces=True),
            "without replaces",
            0,
            id="malformed, and it replaces",
        ),
        pytest.param(
            problem("malformed", 400),
            Situation("new order", replaces=True, lifetime=True),
            "without lifetime",
            0,
            id="malformed, and it has a lifetime",
        ),
        pytest.param(
            problem("invalidProfile", 400),
            Situation("new order", fallback=True),
            "fallback profile",
            0,
            id="invalidProfile, and there is another",
        ),
        pytest.param(
            problem("invalidProfile", 400),
            Situation("new order"),
            "end",
            DAILY.total_seconds(),
            id="invalidProfile, and there is no other",
        ),
        pytest.param(
            problem("", 500),
            Situation("new order", replaces=True, troubles=4),
            "without replaces",
            0,
            id="a CA that falls over replaces",
        ),
        pytest.param(
            problem("malformed", 400), Situation("new order"), "end", 0, id="malformed otherwise"
        ),
        pytest.param(problem("badCSR"), Situation("finalize"), "new key", 0, id="badCSR"),
        pytest.param(
            problem("badCSR"),
            Situation("finalize", done=frozenset({"new key"})),
            "end",
            DAILY.total_seconds(),
            id="badCSR again",
        ),
        pytest.param(
            problem("invalidContact"), Situation("account"), "without contact", 0, id="contact"
        ),
        pytest.param(
            problem("badSignatureAlgorithm"),
            Situation("account"),
            "other algorithm",
            0,
            id="algorithm",
        ),
    ],
)
def test_within_an_attempt(refusal: Refusal, situation: Situation, do: str, wait: float) -> None:
    reaction = react(refusal, situation)
    assert (reaction.do, reaction.wait) == (do, timedelta(seconds=wait))


# -- after it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "situation", "marks", "wait"),
    [
        # marks: lost, stop, everyone, fail over, other challenge
        pytest.param(problem("", 503), Situation(), "f", 0, id="5xx"),
        pytest.param(problem("", None), Situation(), "f", 0, id="no answer"),
        pytest.param(problem("", 403), Situation(), "", 0, id="a page about an order"),
        pytest.param(problem("", 403), Situation("new order"), "f", 0, id="a page"),
        pytest.param(problem("", 404), Situation(), "l", 0, id="no such order"),
        pytest.param(problem("malformed", 404), Situation(), "l", 0, id="no such order, in words"),
        pytest.param(problem("malformed"), Situation("new order"), "lsf", 0, id="our mistake"),
        pytest.param(
            problem("rateLimited", 429, retry_after=7200),
            Situation("new order", left=MONTH),
            "",
            7200,
            id="limited, and it can wait",
        ),
        pytest.param(
            problem("rateLimited", 429, retry_after=7200),
            Situation("new order", left=timedelta(hours=1)),
            "f",
            7200,
            id="limited beyond expiry",
        ),
        pytest.param(
            problem("rateLimited", 429),
            Situation("new order", left=MONTH),
            "",
            PAUSED.total_seconds(),
            id="a limit without its end",
        ),
        pytest.param(
            problem("rateLimited", 429, page=True),
            Situation("new order", left=MONTH),
            "sf",
            0,
            id="paused, with a page to go to",
        ),
        pytest.param(
            problem("rateLimited", 429, page=True, retry_after=7200),
            Situation("new order", left=MONTH),
            "",
            7200,
            id="a page, and a time",
        ),
        pytest.param(seen("connection"), Situation(), "lo", 0, id="connection, the first time"),
        pytest.param(seen("connection"), Situation(failures=2), "lfo", 0, id="and the second"),
        pytest.param(seen("dns"), Situation(failures=2), "lf", 0, id="dns"),
        pytest.param(seen("tls"), Situation(failures=2), "lfo", 0, id="tls"),
        pytest.param(seen("unauthorized"), Situation(), "lo", 0, id="unauthorized"),
        pytest.param(seen("incorrectResponse"), Situation(), "lo", 0, id="incorrectResponse"),
        pytest.param(seen("dnssec"), Situation(), "l", DAILY.total_seconds(), id="dnssec"),
        pytest.param(seen("caa"), Situation(), "l", DAILY.total_seconds(), id="caa"),
        pytest.param(
            seen("caa"),
            Situation(allowed=None, left=MONTH),
            "l",
            0,
            id="caa, and what it says is not known",
        ),
        pytest.param(
            seen("caa"),
            Situation(allowed=None, left=DAILY),
            "lf",
            0,
            id="and little time is left",
        ),
        pytest.param(
            seen("caa"),
            Situation(allowed=True),
            "lf",
            DAILY.total_seconds(),
            id="caa, and it allows another",
        ),
        pytest.param(
            problem("caa"),
            Situation("finalize", allowed=True),
            "lf",
            DAILY.total_seconds(),
            id="caa, late",
        ),
        pytest.param(seen("rejectedIdentifier"), Situation(), "lsf", 0, id="rejected, later"),
        pytest.param(
            problem("rejectedIdentifier"), Situation("new order"), "lsf", 0, id="rejected"
        ),
        pytest.param(
            problem("unsupportedIdentifier"), Situation("new order"), "lsf", 0, id="unsupported"
        ),
        pytest.param(
            problem("compound", subproblems=("connection", "rejectedIdentifier", "caa")),
            Situation("new order"),
            "lsf",
            0,
            id="compound: the gravest",
        ),
        pytest.param(
            problem("invalidProfile"),
            Situation("new order"),
            "lf",
            DAILY.total_seconds(),
            id="profile",
        ),
        pytest.param(
            problem("badPublicKey"), Situation("finalize"), "lf", DAILY.total_seconds(), id="key"
        ),
        pytest.param(
            problem("badPublicKey"),
            Situation("new order"),
            "ef",
            DAILY.total_seconds(),
            id="the account's key",
        ),
        pytest.param(
            problem("badSignatureAlgorithm"),
            Situation("account"),
            "ef",
            DAILY.total_seconds(),
            id="algorithm",
        ),
        pytest.param(problem("unauthorized"), Situation("account"), "sef", 0, id="our account"),
        pytest.param(
            problem("accountDoesNotExist"),
            Situation("new order"),
            "ef",
            DAILY.total_seconds(),
            id="account unknown twice",
        ),
        pytest.param(
            problem("externalAccountRequired"), Situation("account"), "sef", 0, id="customers only"
        ),
        pytest.param(
            problem("userActionRequired"), Situation("new order"), "sef", 0, id="new terms"
        ),
        pytest.param(problem("userActionRequired"), Situation(), "sef", 0, id="in mid-order"),
        pytest.param(problem("invalidContact"), Situation("account"), "se", 0, id="contact"),
        pytest.param(
            problem("quotaOfTheMoon"),
            Situation("new order"),
            "lf",
            DAILY.total_seconds(),
            id="a word that nobody knows",
        ),
        pytest.param(problem("quotaOfTheMoon", 502), Situation(), "f", 0, id="the same as a 502"),
    ],
)
def test_when_the_attempt_is_over(
    refusal: Refusal, situation: Situation, marks: str, wait: float
) -> None:
    reaction = conclude(refusal, situation)
    names = {"l": "lost", "s": "stop", "e": "everyone", "f": "fail_over", "o": "other_challenge"}
    assert "".join(mark for mark, name in names.items() if getattr(reaction, name)) == marks
    assert (reaction.do, reaction.wait) == ("end", timedelta(seconds=wait))


_TYPES = st.sampled_from(
    ["", "badNonce", "rateLimited", "malformed", "badCSR", "caa", "compound", "orderNotReady"]
) | st.text(max_size=20)
_REFUSALS = st.builds(
    Refusal,
    _TYPES,
    st.none() | st.integers(100, 999),
    st.none() | st.floats(0, 86400),
    st.lists(_TYPES, max_size=3).map(tuple),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
_ASKED: list[Asked] = ["account", "new order", "order", "authorization", "finalize", "certificate"]


@given(_REFUSALS, st.sampled_from(_ASKED), st.booleans(), st.integers(1, 9))
def test_whatever_is_said_an_attempt_comes_to_its_end(
    refusal: Refusal, asked: Asked, replaces: bool, failures: int
) -> None:
    done: set[str] = set()
    waited = timedelta(0)
    for troubles in range(1, 20):
        situation = Situation(asked, replaces, troubles, frozenset(done), failures, MONTH)
        reaction = react(refusal, situation)
        if reaction.do == "end":
            break
        done.add(reaction.do)
        waited += reaction.wait
    else:
        pytest.fail(f"{refusal} is tried for ever")
    assert waited <= TRIES * timedelta(seconds=PATIENCE)
    final = conclude(refusal, situation)
    assert isinstance(final, Reaction)
    assert final.do == "end"
