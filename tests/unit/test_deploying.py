"""What is due at targets, in which order and when: the decisions as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from certd import deploying, due
from certd.known import Failure, Lineage, TargetPhase, TargetState, Version
from certd.model import Certificate, CertificateSpec, Identifier, TargetRule
from certd.standing import Entry

ISSUED = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WWW = Identifier("dns", "www.example.com")
SUNDAYS = "Sun 02:00-05:00"
OPENS = datetime(2026, 11, 29, 2, tzinfo=UTC)
FAILURE = Failure("it does not serve it", "who knows", "look", ISSUED)


def lineage(*states: TargetState, lifetime: timedelta = 90 * DAY) -> Lineage:
    facts = Certificate((WWW,), ISSUED, ISSUED + lifetime, "01", "ff", "pin=", None, "CN=a CA")
    return Lineage(
        "www", Version(2, "test", facts, "ec-p256"), targets={s.target: s for s in states}
    )


def spec(*rules: TargetRule, targets: tuple[str, ...] = ("canary", "web")) -> CertificateSpec:
    return CertificateSpec("www", (WWW,), ("test",), targets=targets, rules=rules)


def state(target: str, phase: TargetPhase, version: int = 2, **more: object) -> TargetState:
    return TargetState(target, phase, version, version, **more)  # type: ignore[arg-type]


def planned(wanted: CertificateSpec, have: Lineage, now: datetime = ISSUED) -> list[str]:
    return [
        f"{item.act} {item.target}"
        for item in deploying.targets(wanted, have, now)
        if item.decision.due(now)
    ]


@pytest.mark.parametrize(
    ("canary", "due_now"),
    [
        pytest.param(None, ["deploy canary"], id="never deployed"),
        pytest.param(state("canary", "verified", 1), ["deploy canary"], id="the version before"),
        pytest.param(state("canary", "pending"), ["deploy canary"], id="begun"),
        pytest.param(state("canary", "applied"), ["verify canary"], id="not seen yet"),
        pytest.param(
            state("canary", "applied", failure=FAILURE, retry_at=ISSUED + HOUR), [], id="its hook"
        ),
        pytest.param(
            state("canary", "rolled-back", failure=FAILURE, retry_at=ISSUED + HOUR),
            [],
            id="failed: nobody else is touched",
        ),
        pytest.param(state("canary", "verified"), ["deploy web"], id="serves it"),
        pytest.param(
            state("canary", "verified", retry_at=ISSUED),
            ["look canary", "deploy web"],
            id="looked at again",
        ),
    ],
)
def test_after_the_canary(canary: TargetState | None, due_now: list[str]) -> None:
    have = lineage(*[canary] if canary else [], state("web", "verified", 1))
    assert planned(spec(TargetRule("web", after=("canary",))), have) == due_now


def test_of_targets_without_rules_all_are_due_at_once() -> None:
    assert planned(spec(), lineage()) == ["deploy canary", "deploy web"]


def test_who_waits_for_a_target_of_other_certificates_does_not_wait() -> None:
    wanted = spec(TargetRule("web", after=("canary",)), targets=("web",))
    assert planned(wanted, lineage()) == ["deploy web"]


def test_why_a_target_waits_is_said() -> None:
    rules = TargetRule("web", after=("canary",)), TargetRule("canary", window=(SUNDAYS,))
    canary, web = deploying.targets(spec(*rules), lineage(), ISSUED)
    assert canary.decision.at == OPENS
    assert canary.decision.reason == "version 2 is not there; its window opens then"
    assert web.decision.at == due.NEVER
    assert web.decision.reason == "version 2 is not there; it waits for canary"


@pytest.mark.parametrize(
    ("ends", "at", "why"),
    [
        pytest.param(None, OPENS, "its window opens then", id="nothing is served there"),
        pytest.param(30 * DAY, OPENS, "its window opens then", id="there is time"),
        # 5 % of 90 days are four and a half; the window opens in five days and 14 hours.
        pytest.param(10 * DAY + 3 * HOUR, OPENS, "its window opens then", id="just enough"),
        pytest.param(10 * DAY + HOUR, ISSUED, "outside its window, for what it", id="too late"),
        pytest.param(-DAY, ISSUED, "outside its window, for what it", id="over"),
    ],
)
def test_a_window_is_waited_for_unless_what_is_served_ends(
    ends: timedelta | None, at: datetime, why: str
) -> None:
    until = None if ends is None else ISSUED + ends
    have = lineage(state("web", "verified", 1, until=until))
    wanted = spec(TargetRule("web", window=(SUNDAYS,)), targets=("web",))
    [item] = deploying.targets(wanted, have, ISSUED)
    assert item.decision.at == at
    assert why in item.decision.reason


def test_the_next_try_waits_for_the_window_too() -> None:
    again = OPENS + 100 * timedelta(minutes=1)
    have = lineage(state("web", "failed", failure=FAILURE, retry_at=again))
    wanted = spec(TargetRule("web", window=(SUNDAYS,)), targets=("web",))
    [item] = deploying.targets(wanted, have, OPENS)
    assert item.decision.at == again
    have = lineage(state("web", "failed", failure=FAILURE, retry_at=OPENS + 4 * HOUR))
    [item] = deploying.targets(wanted, have, OPENS)
    assert item.decision.at == OPENS + 7 * DAY


def test_a_look_that_is_due_does_not_make_a_certificate_less_than_ok() -> None:
    have = lineage(state("web", "verified", retry_at=ISSUED))
    entry = Entry.of(spec(targets=("web",)), have, ISSUED)
    assert entry.state == "ok"
    [shown] = entry.document()["targets"]
    assert shown["reason"] is None
    assert shown["next_attempt"] is None
    assert shown["next_look"] == "2026-11-23T12:00:00Z"
