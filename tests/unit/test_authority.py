"""A CA of our own: what its root permits, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as cx509
from cryptography.x509.oid import NameOID

from certd import x509
from certd.config.identifiers import identifier, subtree
from certd.errors import BadCertificate, ConfigError
from certd.model import Identifier, Usage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEY, BELOW, LEAF = x509.new_key("ec-p384"), x509.new_key("ec-p256"), x509.new_key("ec-p256")


def root(*permitted: str) -> str:
    return x509.new_root(KEY, "certd test", [subtree(text) for text in permitted], NOW)


@pytest.mark.parametrize(
    ("permitted", "name", "good"),
    [
        pytest.param([], "www.example.com", True, id="all names without limits"),
        pytest.param([], "192.0.2.1", True, id="all addresses without limits"),
        pytest.param(["example.internal"], "example.internal", True, id="the name itself"),
        pytest.param(["example.internal"], "a.b.example.internal", True, id="below it"),
        pytest.param(["example.internal"], "*.example.internal", True, id="a wildcard below it"),
        pytest.param(["a.example.internal"], "*.example.internal", False, id="a wildcard above"),
        pytest.param(["example.internal"], "badexample.internal", False, id="ends alike"),
        pytest.param(["example.internal"], "internal", False, id="above it"),
        pytest.param(["example.internal"], "192.0.2.1", False, id="names alone, no IPv4"),
        pytest.param(["example.internal"], "2001:db8::1", False, id="names alone, no IPv6"),
        pytest.param(["10.0.0.0/8"], "10.255.0.1", True, id="in the network"),
        pytest.param(["10.0.0.0/8"], "11.0.0.1", False, id="outside of it"),
        pytest.param(["10.0.0.0/8"], "::ffff:10.0.0.1", False, id="of the other family"),
        pytest.param(["10.0.0.0/8"], "www.example.com", False, id="networks alone, no name"),
        pytest.param(["192.0.2.1"], "192.0.2.1", True, id="one address"),
        pytest.param(["192.0.2.1"], "192.0.2.2", False, id="another one"),
        pytest.param(["internal", "2001:db8::/32"], "2001:db8::1", True, id="a name and IPv6"),
        pytest.param(["Bücher.example"], "xn--bcher-kva.example", True, id="internationalised"),
    ],
)
def test_a_root_permits(permitted: list[str], name: str, good: bool) -> None:
    wanted = identifier(name)
    refused = [] if good else [wanted]
    assert x509.outside(root(*permitted), [wanted]) == refused
    # What a root may not, nobody below it may.
    below = x509.new_intermediate(BELOW, root(*permitted), KEY, NOW)
    assert x509.outside(below, [wanted]) == refused


def test_what_it_permits_is_shown_as_it_was_asked_for() -> None:
    assert x509.permits(root("example.internal", "10.0.0.0/8")) == [
        "example.internal",
        "10.0.0.0/8",
    ]
    assert x509.permits(root()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "host bits set"),
        ("10.0.0.0/33", "no network"),
        ("*.example.internal", 'write "example.internal"'),
        (".example.internal", 'write "example.internal"'),
        ("a b", "not a DNS name"),
        ("", "it is empty"),
    ],
)
def test_what_cannot_be_permitted_is_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        subtree(text)


def leaf(
    *names: str,
    usages: tuple[Usage, ...] = ("server",),
    lifetime: timedelta = 7 * DAY,
    now: datetime = NOW,
) -> cx509.Certificate:
    below = x509.new_intermediate(BELOW, root(), KEY, NOW)
    csr = x509.csr_der(x509.csr(LEAF, [identifier(name) for name in names], usages))
    pem = x509.new_leaf(csr, below, BELOW, lifetime, now)
    # What certd makes of it is what it would make of any CA's.
    wanted = [identifier(name) for name in names]
    x509.check(pem + below, LEAF, wanted, now, usages=usages)
    return cx509.load_pem_x509_certificate(pem.encode())


def test_a_leaf_is_for_what_was_asked_for() -> None:
    facts = x509.facts(leaf("www.example.internal", "10.0.0.1", usages=("server", "client")))
    assert facts.identifiers == (
        Identifier("dns", "www.example.internal"),
        Identifier("ip", "10.0.0.1"),
    )
    assert facts.usages == ("server", "client")
    assert facts.not_after == NOW + 7 * DAY


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        (["a.example", "b.example"], "a.example"),
        (["192.0.2.1", "b.example"], "b.example"),
        (["192.0.2.1"], None),
        ([f"{'a' * 60}.example"], None),
    ],
)
def test_the_subject_is_the_first_name_that_fits(names: list[str], subject: str | None) -> None:
    made = leaf(*names)
    found = [item.value for item in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    assert found == ([subject] if subject else [])
    # RFC 5280 section 4.2.1.6
    san = made.extensions.get_extension_for_class(cx509.SubjectAlternativeName)
    assert san.critical == (subject is None)


def test_serials_are_random() -> None:
    serials = {leaf("a.example").serial_number for _ in range(8)}
    assert len(serials) == 8
    assert all(serial.bit_length() > 100 for serial in serials)


def test_nothing_outlives_who_signed_it() -> None:
    late = NOW + x509.INTERMEDIATE_LIFETIME - DAY
    assert leaf("a.example", now=late).not_valid_after_utc == late + DAY
    end = cx509.load_pem_x509_certificate(root().encode()).not_valid_after_utc
    below = x509.new_intermediate(BELOW, root(), KEY, end - DAY)
    assert cx509.load_pem_x509_certificate(below.encode()).not_valid_after_utc == end


@pytest.mark.parametrize("seconds", [60, 3600, 604800])
def test_a_new_leaf_is_not_due_at_once(seconds: int) -> None:
    """However short it lives: it is back-dated by less than half of that."""
    made = leaf("a.example", lifetime=timedelta(seconds=seconds))
    assert made.not_valid_before_utc <= NOW
    half = made.not_valid_before_utc + (made.not_valid_after_utc - made.not_valid_before_utc) / 2
    assert half - NOW > timedelta(seconds=seconds) * 0.4


def test_a_request_without_names_is_refused() -> None:
    below = x509.new_intermediate(BELOW, root(), KEY, NOW)
    with pytest.raises(BadCertificate, match="it has no names"):
        x509.new_leaf(x509.csr_der(x509.csr(LEAF, [])), below, BELOW, DAY, NOW)
