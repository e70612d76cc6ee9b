"""What records in DNS say, as tables: whom CAA lets issue, where a challenge's record is, and when
enough name servers have it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from certd.challenges.caa import CAARecord, CAASet
from certd.challenges.dns01 import (
    lasting_allows,
    lasting_name,
    lasting_value,
    record_name,
    record_value,
)
from certd.challenges.propagation import Kind, Verdict, _enough

OURS = "https://ca.example/acct/1"
OTHER = "https://ca.example/acct/2"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
THEN = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("value", "account", "method", "allowed"),
    [
        pytest.param("ca.example", OURS, "http-01", True, id="no parameters"),
        pytest.param(f"ca.example; accounturi={OURS}", OURS, "http-01", True, id="our account"),
        pytest.param(f"ca.example;accounturi={OURS}", OURS, "http-01", True, id="without blanks"),
        pytest.param(f"CA.example. ; AccountURI = {OURS} ;", OURS, "x", True, id="as it comes"),
        pytest.param(f"ca.example; accounturi={OTHER}", OURS, "http-01", False, id="another's"),
        pytest.param(f"ca.example; accounturi={OURS}/", OURS, "http-01", False, id="nearly ours"),
        pytest.param(f"ca.example; accounturi={OURS.upper()}", OURS, "x", False, id="in capitals"),
        pytest.param("ca.example; accounturi=", OURS, "http-01", False, id="nobody's"),
        pytest.param("ca.example; accounturi", OURS, "http-01", False, id="no value"),
        # RFC 8657 section 3: whoever says two says none that can be met.
        pytest.param(
            f"ca.example; accounturi={OTHER}; accounturi={OURS}",
            OURS,
            "x",
            False,
            id="two accounts",
        ),
        pytest.param(
            f"ca.example; accounturi={OURS}; accounturi={OTHER}",
            OURS,
            "x",
            False,
            id="two, ours first",
        ),
        pytest.param(f"ca.example; accounturi={OTHER}", None, "http-01", True, id="not known yet"),
        pytest.param(
            "ca.example; accounturi=https://a.example/?id=1",
            "https://a.example/?id=1",
            "dns-01",
            True,
            id="an equals sign",
        ),
        pytest.param("ca.example; validationmethods=dns-01", OURS, "dns-01", True, id="method"),
        pytest.param("ca.example; validationmethods=dns-01", OURS, "http-01", False, id="other"),
        pytest.param(
            "ca.example; validationmethods=http-01,dns-01", OURS, "dns-01", True, id="two"
        ),
        pytest.param(
            "ca.example; validationmethods=http-01 , dns-01",
            OURS,
            "dns-01",
            True,
            id="two with blanks",
        ),
        pytest.param("ca.example; validationmethods=xdns-01", OURS, "dns-01", False, id="part"),
        pytest.param("ca.example; validationmethods=", OURS, "dns-01", False, id="no method"),
        pytest.param("ca.example; validationmethods=dns-01", OURS, None, True, id="any method"),
        pytest.param(
            f"ca.example; validationmethods=dns-01; accounturi={OURS}",
            OURS,
            "dns-01",
            True,
            id="both",
        ),
        pytest.param(
            f"ca.example; validationmethods=dns-01; accounturi={OTHER}",
            OURS,
            "dns-01",
            False,
            id="the method, but not the account",
        ),
        pytest.param(
            f"ca.example; validationmethods=http-01; accounturi={OURS}",
            OURS,
            "dns-01",
            False,
            id="the account, but not the method",
        ),
        pytest.param("ca.example; policy=ev", OURS, "dns-01", True, id="another parameter"),
        pytest.param(f"other.example; accounturi={OURS}", OURS, "dns-01", False, id="another CA"),
        pytest.param(";", OURS, "dns-01", False, id="nobody"),
        pytest.param("", OURS, "dns-01", False, id="empty"),
    ],
)
def test_the_parameters_of_a_record(
    value: str, account: str | None, method: str | None, allowed: bool
) -> None:
    found = CAASet("x", (CAARecord(0, "issue", value),))
    identities = ("ca.example",)
    for wildcard in (False, True):
        assert (
            found.allows(identities, wildcard=wildcard, account=account, method=method) == allowed
        )


def test_one_record_that_allows_it_is_enough() -> None:
    """Each by itself: not the account of the one and the challenge of the other."""
    first = CAARecord(0, "issue", f"ca.example; accounturi={OTHER}; validationmethods=dns-01")
    second = CAARecord(0, "issue", f"ca.example; accounturi={OURS}; validationmethods=http-01")
    both = CAASet("x", (first, second))
    for method, allowed in (("http-01", True), ("dns-01", False)):
        assert both.allows(("ca.example",), wildcard=False, account=OURS, method=method) == allowed


def test_a_wildcard_has_its_own_parameters() -> None:
    plain = CAARecord(0, "issue", f"ca.example; accounturi={OTHER}")
    wild = CAARecord(0, "issuewild", f"ca.example; accounturi={OURS}")
    both = CAASet("x", (plain, wild))
    for wildcard in (False, True):
        assert both.allows(("ca.example",), wildcard=wildcard, account=OURS) == wildcard


# draft-ietf-acme-dns-account-label section 3.2 has this account and this label.
EXAMPLE = "https://example.com/acme/acct/ExampleAccount"


@pytest.mark.parametrize(
    ("name", "challenge", "where"),
    [
        ("www.example.org", "dns-01", "_acme-challenge.www.example.org"),
        ("*.example.org", "dns-01", "_acme-challenge.example.org"),
        ("example.org", "dns-account-01", "_ujmmovf2vn55tgye._acme-challenge.example.org"),
        ("*.example.org", "dns-account-01", "_ujmmovf2vn55tgye._acme-challenge.example.org"),
    ],
)
def test_where_a_record_is(name: str, challenge: str, where: str) -> None:
    assert record_name(name, challenge, EXAMPLE) == where


def test_what_is_in_it_has_no_padding() -> None:
    for text in ("token.thumbprint", "", "x" * 500):
        value = record_value(text)
        assert len(value) == 43
        assert "=" not in value


@pytest.mark.parametrize(
    ("value", "wildcard", "allowed"),
    [
        pytest.param(f"ca.example; accounturi={OURS}", False, True, id="as it is printed"),
        pytest.param(f"ca.example; accounturi={OURS}", True, False, id="not for a wildcard"),
        pytest.param(f"ca.example; accounturi={OURS}; policy=wildcard", True, True, id="for one"),
        pytest.param(f"ca.example; accounturi={OURS}; policy=Wildcard", True, True, id="any case"),
        pytest.param(f"ca.example; accounturi={OURS}; policy=wildcard", False, True, id="for both"),
        pytest.param(
            f"ca.example; accounturi={OURS}; policy=other", False, True, id="other policy"
        ),
        pytest.param(f"CA.Example.;accounturi={OURS}", False, True, id="the issuer in any case"),
        pytest.param(f"other.example; accounturi={OURS}", False, False, id="another CA"),
        pytest.param(f"ca.example; accounturi={OTHER}", False, False, id="another account"),
        pytest.param("ca.example", False, False, id="no account"),
        pytest.param(
            f"ca.example; accounturi={OTHER}; accounturi={OURS}", False, False, id="two accounts"
        ),
        pytest.param(
            f"ca.example; accounturi={OURS}; persistUntil={THEN + 1}", False, True, id="it lasts"
        ),
        pytest.param(
            f"ca.example; accounturi={OURS}; persistUntil={THEN}", False, False, id="it has ended"
        ),
        pytest.param(
            f"ca.example; accounturi={OURS}; persistUntil=tomorrow", False, False, id="no number"
        ),
        pytest.param(f"ca.example; accounturi={OURS}; persistUntil=²", False, False, id="no digit"),
        pytest.param(
            f"ca.example; accounturi={OURS}; persistUntil={'9' * 4400}", False, False, id="too long"
        ),
        pytest.param(f"ca.example; accounturi={OURS}; new=1", False, True, id="unknown parameter"),
        pytest.param("", False, False, id="empty"),
        pytest.param(";;;=;", False, False, id="nothing of it"),
    ],
)
def test_what_a_lasting_record_allows(value: str, wildcard: bool, allowed: bool) -> None:
    assert lasting_allows(value, ["ca.example"], OURS, NOW, wildcard=wildcard) == allowed


def test_what_is_printed_is_taken() -> None:
    for wildcard in (False, True):
        value = lasting_value("ca.example", OURS, wildcard=wildcard)
        assert lasting_allows(value, ["CA.example."], OURS, NOW, wildcard=wildcard)
    assert lasting_name("*.example.org") == "_validation-persist.example.org"


HAS, LATE, SILENT = Verdict(True, True), Verdict(False, True), Verdict(False, False)


@pytest.mark.parametrize(
    ("kind", "verdicts", "enough"),
    [
        pytest.param("all", [HAS, HAS], True, id="all"),
        pytest.param("all", [HAS, LATE], False, id="not all: late"),
        pytest.param("all", [HAS, SILENT], False, id="not all: silent"),
        pytest.param("quorum", [HAS], True, id="the only one"),
        pytest.param("quorum", [SILENT], False, id="the only one, silent"),
        pytest.param("quorum", [HAS, HAS, LATE], True, id="more than half"),
        pytest.param("quorum", [HAS, SILENT], True, id="half, the other is silent"),
        pytest.param("quorum", [HAS, LATE], False, id="half, the other is late"),
        pytest.param("quorum", [HAS, HAS, SILENT, LATE], False, id="half, one of them late"),
        pytest.param("quorum", [HAS, SILENT, SILENT], False, id="less than half"),
        pytest.param("quorum", [LATE, LATE], False, id="none"),
        pytest.param("quorum", [SILENT, SILENT], False, id="all silent"),
    ],
)
def test_when_enough_name_servers_have_it(
    kind: Kind, verdicts: list[Verdict], enough: bool
) -> None:
    assert _enough(kind, {str(number): one for number, one in enumerate(verdicts)}) == enough
