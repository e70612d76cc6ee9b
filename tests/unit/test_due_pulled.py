"""What is due of certificates that come from another certd: the decisions as tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certd import due
from certd.known import Failure, Lineage, TargetState, Version
from certd.model import Certificate, CertificateSpec, Identifier, SigningRequest
from certd.standing import Entry

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)
NOW = ISSUED + timedelta(days=1)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
WWW = Identifier("dns", "www.example.com")
SPEC = CertificateSpec("www", (WWW,), ("hub",), targets=("web",), pulled=True)
FACTS = Certificate((WWW,), ISSUED, ISSUED + 90 * DAY, "01", "ff", "pin=", "aki.serial", "CN=a CA")
HELD = Lineage(
    "www",
    Version(3, "hub", FACTS, "rsa-2048"),
    ask_again=NOW + MINUTE,
    targets={"web": TargetState("web", "verified", 3, 3)},
)
FAILURE = Failure("hub cannot be asked", "it is away", "wait", NOW)
FAILED = replace(HELD, ask_again=ISSUED, failure=FAILURE, failures=1, retry_at=NOW + HOUR)


@pytest.mark.parametrize(
    ("spec", "lineage", "wait", "reason"),
    [
        pytest.param(SPEC, Lineage("www"), timedelta(0), "no certificate yet", id="nothing yet"),
        pytest.param(SPEC, HELD, MINUTE, "hub may have another", id="asked now and then"),
        pytest.param(
            SPEC, replace(HELD, ask_again=None), timedelta(0), "hub may", id="never asked so far"
        ),
        pytest.param(SPEC, FAILED, HOUR, "hub may have another; failed once", id="back-off"),
        pytest.param(
            SPEC,
            replace(FAILED, current=None),
            HOUR,
            "no certificate yet; failed once, waiting",
            id="back-off before the first",
        ),
        pytest.param(
            replace(SPEC, key_type="ec-p384"), HELD, MINUTE, "hub may", id="any kind of key"
        ),
        pytest.param(SPEC, replace(HELD, forced=True), MINUTE, "hub may", id="not forced here"),
        pytest.param(
            replace(SPEC, identifiers=(WWW, Identifier("dns", "example.com"))),
            HELD,
            timedelta(0),
            "the names have changed: +example.com",
            id="another name",
        ),
        pytest.param(
            replace(SPEC, usages=("server", "client")),
            HELD,
            timedelta(0),
            "for a TLS client as well",
            id="another use",
        ),
        pytest.param(
            replace(SPEC, csr=SigningRequest("pem", "pin")),
            HELD,
            timedelta(0),
            "the key of the signing request (csr) has changed",
            id="a request of the operator's",
        ),
        pytest.param(
            SPEC,
            replace(HELD, ordering=True, placed=True),
            timedelta(0),
            "an order from before is given up",
            id="an order of before",
        ),
    ],
)
def test_when_the_hub_is_asked(
    spec: CertificateSpec, lineage: Lineage, wait: timedelta, reason: str
) -> None:
    decision = due.issuance(spec, lineage, NOW)
    assert decision.at - NOW == wait
    assert reason in decision.reason


@pytest.mark.parametrize("at", [80 * DAY, 89 * DAY, 91 * DAY])
def test_nothing_is_due_for_age_alone(at: timedelta) -> None:
    """The hub renews; who pulls only asks."""
    now = ISSUED + at
    decision = due.issuance(SPEC, replace(HELD, ask_again=now + MINUTE), now)
    assert decision.at == now + MINUTE


def test_no_ca_is_asked_for_a_renewal_window_and_no_key_is_made() -> None:
    plan = due.plan(SPEC, replace(HELD, ask_again=ISSUED), NOW)
    assert (plan.ask, plan.next_key) == (None, None)
    assert plan.issue.due(NOW)


@pytest.mark.parametrize(
    ("lineage", "now", "state"),
    [
        pytest.param(HELD, NOW, "ok", id="well"),
        pytest.param(replace(HELD, ask_again=ISSUED), NOW, "ok", id="about to ask"),
        pytest.param(FAILED, NOW, "ok", id="away for a moment"),
        pytest.param(replace(FAILED, failures=due.PATIENCE), NOW, "failing", id="away for long"),
        pytest.param(FAILED, ISSUED + 60 * DAY, "failing", id="away when it should be renewed"),
        pytest.param(replace(FAILED, current=None), NOW, "failing", id="away, and nothing here"),
        pytest.param(Lineage("www"), NOW, "new", id="nothing yet"),
        pytest.param(HELD, ISSUED + 90 * DAY, "expired", id="too late"),
    ],
)
def test_the_state(lineage: Lineage, now: datetime, state: str) -> None:
    assert Entry.of(SPEC, lineage, now).state == state


def test_a_failure_is_over_when_the_hub_has_answered_only() -> None:
    assert not due.over(SPEC, FAILED, NOW)
    assert due.over(SPEC, replace(FAILED, ask_again=NOW + MINUTE, retry_at=None), NOW)
