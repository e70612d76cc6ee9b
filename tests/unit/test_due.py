"""What is due, when and why: the decisions as tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd import due, windows
from certd.known import (
    Failure,
    Lineage,
    Park,
    RenewalInfo,
    TargetPhase,
    TargetState,
    Version,
)
from certd.model import Certificate, CertificateSpec, Identifier

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SECOND = timedelta(seconds=1)
WWW, APEX = Identifier("dns", "www.example.com"), Identifier("dns", "example.com")
SPEC = CertificateSpec("www", (WWW, APEX), ("test",), targets=("web",))


def leaf(lifetime: timedelta = 90 * DAY, names: tuple[Identifier, ...] = (WWW, APEX)) -> Version:
    facts = Certificate(
        names, ISSUED, ISSUED + lifetime, "01", "ff", "pin=", "aki.serial", "CN=a CA"
    )
    return Version(1, "test", facts, "ec-p256")


def test_what_the_ca_explains_is_shown_where_to_read() -> None:
    info = replace(window(DAY, 3 * DAY, 2 * DAY), explanation_url="https://ca.example/why")
    decision = due.renewal(leaf().certificate, info)
    assert decision.reason == "the CA's renewal window, explained at https://ca.example/why"


def window(start: timedelta, end: timedelta, selected: timedelta) -> RenewalInfo:
    return RenewalInfo(ISSUED + start, ISSUED + end, ISSUED + selected)


HELD = Lineage("www", leaf())
FOR_BOTH = replace(leaf(), certificate=replace(leaf().certificate, usages=("server", "client")))
ORDERED = replace(HELD, ordering=True, placed=True)
FAILURE = Failure("the CA refused", "it said so", "wait", ISSUED)


# -- which challenge --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "kept", "challenge", "after"),
    [
        pytest.param(("a",), None, "a", None, id="the only one"),
        pytest.param(("a", "b", "c"), None, "a", "b", id="the first"),
        pytest.param(("a", "b", "c"), "b", "b", "c", id="the next"),
        pytest.param(("a", "b", "c"), "c", "c", None, id="the last"),
        pytest.param(("a", "b"), "gone", "a", "b", id="one that is not wanted any more"),
    ],
)
def test_challenges_are_tried_in_order(
    wanted: tuple[str, ...], kept: str | None, challenge: str, after: str | None
) -> None:
    spec = replace(SPEC, challenges=wanted)
    assert due.challenge(spec, replace(HELD, challenge=kept)) == challenge
    assert due.challenge_after(spec, challenge) == after
    assert due.challenge_after(spec, "gone") is None


# -- when to renew a certificate with which nothing is wrong ------------------------------


@pytest.mark.parametrize(
    ("lifetime", "info", "renew_after", "at", "reason"),
    [
        pytest.param(90 * DAY, None, None, 60 * DAY, "2/3", id="90 days: at 2/3"),
        pytest.param(10 * DAY, None, None, 10 * DAY * 2 / 3, "2/3", id="ten days: still 2/3"),
        pytest.param(9 * DAY, None, None, 4.5 * DAY, "1/2", id="below ten days: at half"),
        pytest.param(160 * HOUR, None, None, 80 * HOUR, "1/2", id="160 hours: at half"),
        pytest.param(20 * MINUTE, None, None, 10 * MINUTE, "1/2", id="20 minutes: at half"),
        pytest.param(90 * DAY, None, 0.5, 45 * DAY, "50%", id="renew_after"),
        pytest.param(
            90 * DAY, None, 0.99, 85.5 * DAY, "last 5 %", id="renew_after in the last 5 %"
        ),
        pytest.param(
            90 * DAY,
            window(50 * DAY, 52 * DAY, 51 * DAY),
            None,
            51 * DAY,
            "window",
            id="the CA's window",
        ),
        pytest.param(
            90 * DAY,
            window(50 * DAY, 52 * DAY, 51 * DAY),
            0.1,
            51 * DAY,
            "window",
            id="the CA's window goes before renew_after",
        ),
        pytest.param(
            90 * DAY,
            window(-2 * DAY, -1 * DAY, -1.5 * DAY),
            None,
            -1.5 * DAY,
            "window",
            id="a window before the certificate's own time is now",
        ),
        pytest.param(
            90 * DAY,
            window(91 * DAY, 92 * DAY, 91.5 * DAY),
            None,
            85.5 * DAY,
            "last 5 %",
            id="a window past expiry is overruled",
        ),
        pytest.param(
            90 * DAY,
            window(80 * DAY, 90 * DAY, 85.5 * DAY),
            None,
            85.5 * DAY,
            "the CA's renewal window",
            id="the last instant that a window may choose",
        ),
    ],
)
def test_renewal(
    lifetime: timedelta,
    info: RenewalInfo | None,
    renew_after: float | None,
    at: timedelta,
    reason: str,
) -> None:
    decision = due.renewal(leaf(lifetime).certificate, info, renew_after)
    assert abs(decision.at - (ISSUED + at)) < timedelta(milliseconds=1)
    assert reason in decision.reason


# -- whether to issue now -----------------------------------------------------------------

LATER = ISSUED + 61 * DAY
EARLY = ISSUED + 1 * DAY


@pytest.mark.parametrize(
    ("spec", "lineage", "now", "is_due", "reason"),
    [
        pytest.param(SPEC, Lineage("www"), EARLY, True, "no certificate yet", id="new"),
        pytest.param(SPEC, HELD, EARLY, False, "2/3 of the lifetime", id="young"),
        pytest.param(SPEC, HELD, LATER, True, "2/3 of the lifetime", id="old enough"),
        pytest.param(
            SPEC, HELD, ISSUED + 100 * DAY, True, "2/3 of the lifetime", id="expired long ago"
        ),
        pytest.param(SPEC, replace(HELD, forced=True), EARLY, True, "operator", id="forced"),
        pytest.param(
            replace(SPEC, identifiers=(WWW, Identifier("dns", "new.example.com"))),
            HELD,
            EARLY,
            True,
            "the names have changed: +new.example.com -example.com",
            id="the names have changed",
        ),
        pytest.param(
            replace(SPEC, identifiers=(APEX, WWW)),
            HELD,
            EARLY,
            False,
            "2/3",
            id="the same names in another order",
        ),
        pytest.param(
            replace(SPEC, key_type="rsa-2048"),
            HELD,
            EARLY,
            True,
            "the key type has changed from ec-p256 to rsa-2048",
            id="the key type has changed",
        ),
        pytest.param(
            replace(SPEC, usages=("server", "client")),
            HELD,
            EARLY,
            True,
            "it is to be for a TLS client as well",
            id="it is to be for clients too",
        ),
        pytest.param(
            SPEC,
            replace(HELD, current=FOR_BOTH),
            EARLY,
            False,
            "2/3",
            id="it is for more than is wanted, as public CAs' have been",
        ),
        pytest.param(
            replace(SPEC, profile="shortlived", lifetime=timedelta(days=6)),
            HELD,
            EARLY,
            True,
            "the lifetime has changed from none to 518400s, "
            "the profile has changed from none to shortlived",
            id="the profile has changed",
        ),
        pytest.param(
            replace(SPEC, profile="shortlived", fallback_profile="tlsserver"),
            replace(
                HELD,
                current=replace(leaf(), profile="tlsserver", wishes="profile=shortlived"),
            ),
            EARLY,
            False,
            "2/3",
            id="the fallback profile is no reason to renew",
        ),
        pytest.param(
            replace(SPEC, targets=("web", "mail")), HELD, EARLY, False, "2/3", id="one more target"
        ),
        pytest.param(SPEC, ORDERED, EARLY, True, "an order is under way at the CA", id="ordering"),
        pytest.param(
            SPEC,
            replace(ORDERED, failures=1, retry_at=EARLY + MINUTE, failure=FAILURE),
            EARLY,
            False,
            "an order is under way at the CA; failed once, waiting",
            id="an order under way waits out its back-off",
        ),
        pytest.param(
            SPEC,
            Lineage("www", ordering=True),
            EARLY,
            True,
            "no certificate yet",
            id="an order that the CA does not know is gone on with, for its own reason",
        ),
        pytest.param(
            SPEC,
            Lineage("www", ordering=True, failures=1, retry_at=EARLY + MINUTE, failure=FAILURE),
            EARLY,
            False,
            "no certificate yet; failed once, waiting",
            id="the CA could not be asked",
        ),
        pytest.param(
            SPEC,
            replace(HELD, ordering=True),
            EARLY,
            True,
            "an order was begun",
            id="an order that the CA does not know and nobody needs is gone on with too",
        ),
        pytest.param(
            SPEC,
            replace(HELD, failures=3, retry_at=LATER + HOUR, failure=FAILURE),
            LATER,
            False,
            "failed 3 times, waiting",
            id="back-off holds though it is due",
        ),
        pytest.param(
            SPEC,
            replace(HELD, failures=3, retry_at=LATER, failure=FAILURE),
            LATER,
            True,
            "2/3",
            id="back-off over",
        ),
        pytest.param(
            SPEC,
            replace(
                HELD,
                renewal=window(-3 * DAY, -2 * DAY, -2.5 * DAY),
                failures=2,
                retry_at=EARLY + HOUR,
            ),
            EARLY,
            False,
            "the CA's renewal window; failed 2 times",
            id="back-off holds under ARI",
        ),
        pytest.param(
            SPEC,
            replace(HELD, forced=True, failures=3, retry_at=EARLY + HOUR),
            EARLY,
            False,
            "asked for by the operator; failed 3 times",
            id="the operator's word ends one back-off, not those that follow",
        ),
    ],
)
def test_issuance(
    spec: CertificateSpec, lineage: Lineage, now: datetime, is_due: bool, reason: str
) -> None:
    decision = due.issuance(spec, lineage, now)
    assert decision.due(now) is is_due
    assert reason in decision.reason


# -- targets ------------------------------------------------------------------------------


def at_target(phase: TargetPhase, version: int | None, **more: object) -> Lineage:
    return replace(HELD, targets={"web": replace(TargetState("web", phase, version), **more)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lineage", "act", "wait"),
    [
        pytest.param(Lineage("www"), None, None, id="nothing to deploy yet"),
        pytest.param(HELD, "deploy", timedelta(0), id="never touched"),
        pytest.param(at_target("verified", 1), None, None, id="in place"),
        pytest.param(at_target("verified", 0), "deploy", timedelta(0), id="one version behind"),
        pytest.param(at_target("pending", 1), "deploy", timedelta(0), id="killed while deploying"),
        pytest.param(at_target("applied", 1), "verify", timedelta(0), id="to be verified"),
        pytest.param(
            at_target("applied", 1, retry_at=EARLY + MINUTE), "verify", MINUTE, id="verified later"
        ),
        pytest.param(
            at_target("failed", 1, retry_at=EARLY + HOUR, failure=FAILURE),
            "deploy",
            HOUR,
            id="failed: after its back-off",
        ),
        pytest.param(
            at_target("rolled-back", 1, retry_at=EARLY + HOUR, failure=FAILURE),
            "deploy",
            HOUR,
            id="rolled back: after its back-off",
        ),
        pytest.param(
            at_target("rolled-back", 0, retry_at=EARLY + HOUR, failure=FAILURE),
            "deploy",
            timedelta(0),
            id="a newer version does not wait for the back-off of an older",
        ),
    ],
)
def test_targets(lineage: Lineage, act: str | None, wait: timedelta | None) -> None:
    found = due.plan(SPEC, lineage, EARLY).targets
    assert [(item.act, item.decision.at - EARLY) for item in found] == (
        [] if act is None else [(act, wait)]
    )


def test_a_target_that_is_no_longer_wanted_is_left_alone() -> None:
    spec = replace(SPEC, targets=())
    assert due.plan(spec, at_target("failed", 1, failure=FAILURE), EARLY).targets == ()


# -- the plan as a whole ------------------------------------------------------------------


def test_a_park_that_is_over_is_no_reason_any_more() -> None:
    def parked(until: datetime) -> Lineage:
        return Lineage("www", None, parks={"test": Park(until, FAILURE)})

    held = due.issuance(SPEC, parked(ISSUED + DAY), ISSUED)
    assert held.at == ISSUED + DAY
    assert "no CA of its list may be asked" in held.reason
    assert due.issuance(SPEC, parked(ISSUED), ISSUED).reason == "no certificate yet"
    issuing = replace(parked(ISSUED + DAY), ordering=True, placed=True, issuing=True)
    assert due.issuance(SPEC, issuing, ISSUED).due(ISSUED)


def test_the_next_look_is_the_earliest_of_all() -> None:
    asking = replace(HELD, ask_again=EARLY + 6 * HOUR)
    assert due.plan(replace(SPEC, targets=()), asking, EARLY).next_look() == EARLY + 6 * HOUR
    assert due.plan(SPEC, asking, EARLY).next_look() == EARLY
    assert due.plan(replace(SPEC, targets=()), HELD, EARLY).next_look() == ISSUED + 60 * DAY


def test_beside_an_order_there_may_be_nothing_else() -> None:
    plan = due.plan(SPEC, Lineage("www"), EARLY)
    assert plan.next_look() == EARLY
    assert plan.next_look_beside_order() == due.NEVER


@pytest.mark.parametrize(
    ("lineage", "now", "asks"),
    [
        pytest.param(Lineage("www", ask_again=EARLY), EARLY, False, id="no certificate"),
        pytest.param(HELD, EARLY, False, id="nothing to ask"),
        pytest.param(replace(HELD, ask_again=EARLY), EARLY, True, id="asks"),
        pytest.param(
            replace(HELD, ask_again=EARLY), ISSUED + 90 * DAY, False, id="never after expiry"
        ),
    ],
)
def test_renewal_information_is_asked_for(lineage: Lineage, now: datetime, asks: bool) -> None:
    assert (due.plan(SPEC, lineage, now).ask is not None) is asks


# -- the window's instant -----------------------------------------------------------------

START, END = ISSUED + 50 * DAY, ISSUED + 52 * DAY


@pytest.mark.parametrize(
    ("draw", "at"),
    [
        pytest.param(0.0, START, id="first"),
        pytest.param(0.5, START + DAY, id="middle"),
        pytest.param(0.75, START + 1.5 * DAY, id="late"),
    ],
)
def test_the_instant_is_drawn_in_the_window(draw: float, at: datetime) -> None:
    assert windows.renewal_instant(START, END, draw) == at


@pytest.mark.parametrize("end", [START, START - DAY])
def test_a_window_that_ends_before_it_starts_is_none(end: datetime) -> None:
    with pytest.raises(windows.BadRenewalInfo):
        windows.renewal_instant(START, end, 0.5)


def test_the_instant_is_kept_until_the_window_changes() -> None:
    first = windows.renewal_info(START, END, None, None, 0.2)
    again = windows.renewal_info(START, END, "https://why.example", first, 0.9)
    moved = windows.renewal_info(START, END + DAY, None, first, 0.9)
    assert again.selected == first.selected
    assert again.explanation_url == "https://why.example"
    assert moved.selected == START + 3 * DAY * 0.9


# -- how long to wait ---------------------------------------------------------------------


@pytest.mark.fault(row=26)
@pytest.mark.parametrize(
    ("retry_after", "failures", "wait"),
    [
        pytest.param(None, 0, 6 * HOUR, id="the CA does not say"),
        pytest.param(21600, 0, 6 * HOUR, id="the CA says"),
        pytest.param(0, 0, MINUTE, id="not more often than each minute"),
        pytest.param(10 * 365 * 86400, 0, DAY, id="ten years are a day"),
        pytest.param(21600, 1, MINUTE, id="silence once"),
        pytest.param(None, 2, 2 * MINUTE, id="silence twice"),
        pytest.param(None, 9, 256 * MINUTE, id="silence nine times"),
        pytest.param(None, 10, 6 * HOUR, id="silence ten times"),
        pytest.param(None, 10**6, 6 * HOUR, id="silence for ever"),
    ],
)
def test_ask_again(retry_after: float | None, failures: int, wait: timedelta) -> None:
    assert windows.ask_again(EARLY, retry_after, failures) - EARLY == wait


@pytest.mark.parametrize(
    ("failures", "left", "wait"),
    [
        pytest.param(1, None, MINUTE, id="first"),
        pytest.param(2, None, 10 * MINUTE, id="second"),
        pytest.param(3, None, 100 * MINUTE, id="third"),
        pytest.param(4, None, DAY, id="fourth"),
        pytest.param(1000, 60 * DAY, DAY, id="daily from then on"),
        pytest.param(4, 4 * DAY, 12 * HOUR, id="compressed when little lifetime is left"),
        pytest.param(4, MINUTE, 7.5 * SECOND, id="a minute left"),
        pytest.param(4, SECOND, 5 * SECOND, id="never below five seconds"),
        pytest.param(4, -SECOND, 5 * SECOND, id="just expired"),
        pytest.param(4, -DAY, 3 * HOUR, id="expired a day ago"),
        pytest.param(4, -30 * DAY, DAY, id="expired long ago"),
    ],
)
def test_backoff(failures: int, left: timedelta | None, wait: timedelta) -> None:
    assert due.backoff(failures, left, 0.0) == wait


@given(
    failures=st.integers(1, 10**6),
    left=st.none() | st.timedeltas(-1000 * DAY, 1000 * DAY),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_number_of_failures_makes_the_backoff_overflow(
    failures: int, left: timedelta | None, draw: float
) -> None:
    assert due.SHORTEST <= due.backoff(failures, left, draw) <= 1.1 * DAY


@given(
    lifetime=st.timedeltas(MINUTE, 400 * DAY),
    start=st.timedeltas(-500 * DAY, 500 * DAY),
    length=st.timedeltas(timedelta(microseconds=1), 500 * DAY),
    draw=st.floats(0, 1, exclude_max=True),
    renew_after=st.none() | st.floats(0.01, 0.99),
)
def test_whatever_the_ca_suggests_a_certificate_is_renewed_before_it_expires(
    lifetime: timedelta,
    start: timedelta,
    length: timedelta,
    draw: float,
    renew_after: float | None,
) -> None:
    certificate = leaf(lifetime).certificate
    info = windows.renewal_info(ISSUED + start, ISSUED + start + length, None, None, draw)
    for known in (info, None):
        decision = due.renewal(certificate, known, renew_after)
        assert decision.at <= certificate.not_after - lifetime * 0.04
    assert info.start <= info.selected <= info.end


@pytest.mark.parametrize(
    ("kept", "denied", "left"),
    [
        pytest.param(None, False, ["http-01", "dns-01", "tls-alpn-01"], id="all"),
        pytest.param("dns-01", False, ["dns-01", "tls-alpn-01"], id="the first has failed"),
        pytest.param("other", False, ["http-01", "dns-01", "tls-alpn-01"], id="no longer wanted"),
        pytest.param(None, True, ["http-01", "tls-alpn-01"], id="the provider refuses"),
        pytest.param("dns-01", True, ["tls-alpn-01"], id="both"),
    ],
)
def test_the_challenges_that_an_order_may_be_proved_by(
    kept: str | None, denied: bool, left: list[str]
) -> None:
    every = ("http-01", "dns-01", "tls-alpn-01")
    spec = replace(SPEC, challenges=every, dns=(("www.example.com", "main"),))
    parks = {"dns main": Park(None, FAILURE)} if denied else {}
    found = due.challenges(spec, Lineage("www", challenge=kept, parks=parks))
    assert list(found) == left
    assert due.challenge(spec, Lineage("www", challenge=kept, parks=parks)) == left[0]
