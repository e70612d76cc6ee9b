"""Which challenge CAA records leave, of those that a certificate wants."""

from __future__ import annotations

import pytest

from certd.challenges.caa import CAARecord, CAASet
from certd.doctor import Asked, _permitted
from certd.model import Identifier

HTTP, DNS, TLS = "http-01", "dns-01", "tls-alpn-01"


def records(*values: str) -> CAASet:
    return CAASet("example.com", tuple(CAARecord(0, "issue", value) for value in values))


@pytest.mark.parametrize(
    ("sets", "permitted"),
    [
        pytest.param([records("ca; validationmethods=dns-01")], DNS, id="the second"),
        pytest.param([records("ca; validationmethods=tls-alpn-01")], TLS, id="the third"),
        pytest.param([records("ca; validationmethods=tls-alpn-01,dns-01")], DNS, id="in our order"),
        pytest.param([records("ca; validationmethods=http-01")], "", id="neither"),
        pytest.param(
            [records("ca; validationmethods=x-01", "ca; validationmethods=dns-01")],
            DNS,
            id="by another record",
        ),
        pytest.param([records("other")], "", id="another CA"),
        pytest.param(
            [records("ca; accounturi=x; validationmethods=dns-01")], "", id="another account"
        ),
        pytest.param(
            [records("ca; validationmethods=dns-01"), records("ca; validationmethods=tls-alpn-01")],
            "",
            id="one for each name, and none for both",
        ),
        pytest.param(
            [records("ca; validationmethods=tls-alpn-01"), records()], TLS, id="a name without any"
        ),
    ],
)
def test_the_first_of_the_others_that_the_records_of_all_names_permit(
    sets: list[CAASet], permitted: str
) -> None:
    asked = Asked("ca", ("ca",), "mine", HTTP, (DNS, TLS))
    names = [Identifier("dns", f"n{number}.example.com") for number in range(len(sets))]
    assert _permitted(list(zip(names, sets, strict=True)), asked) == permitted
