"""Who may order names that another certificate has too."""

from __future__ import annotations

import itertools

import pytest

from certd.model import CertificateSpec, Identifier
from certd.twins import Claims, Twins, claims

HTTP, TLS = "http-01", "tls-alpn-01"


def names(*values: str, ca: str = "test", challenges: tuple[str, ...] = (HTTP,)) -> Claims:
    identifiers = tuple(Identifier("dns", value) for value in values)
    return claims(CertificateSpec("x", identifiers, (ca,), challenges), ca)


def test_the_second_waits_until_the_first_is_done() -> None:
    twins = Twins()
    assert not twins.has("ec", names("a", "b"))
    assert twins.has("rsa", names("b", "a"))
    assert not twins.has("ec", names("a", "b"))
    twins.leave("ec")
    twins.leave("ec")
    assert not twins.has("rsa", names("a", "b"))


def test_other_names_and_other_cas_are_nothing_to_wait_for() -> None:
    twins = Twins()
    assert not twins.has("one", names("a"))
    assert not twins.has("two", names("a", "b"))
    assert not twins.has("three", names("a", ca="other"))


def test_two_that_have_swapped_their_names_do_not_wait_for_each_other() -> None:
    twins = Twins()
    assert not twins.has("one", names("a"))
    assert not twins.has("two", names("b"))
    assert twins.has("one", names("b"))
    assert not twins.has("two", names("a"))
    assert not twins.has("one", names("b"))


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        pytest.param(
            names("a", challenges=(TLS,)), names("b", challenges=(TLS,)), False, id="others"
        ),
        pytest.param(
            names("a", "b", challenges=(TLS,)), names("b", challenges=(TLS,)), True, id="one"
        ),
        pytest.param(
            names("a", challenges=(TLS,)),
            names("a", ca="other", challenges=(TLS,)),
            True,
            id="other CA",
        ),
        pytest.param(names("a", "b", challenges=(TLS,)), names("b"), False, id="one by HTTP-01"),
        pytest.param(
            names("a", challenges=(HTTP, TLS)),
            names("a", "b", challenges=(TLS,)),
            True,
            id="may be",
        ),
    ],
)
def test_a_name_by_tls_alpn_is_one_certificates_at_a_time(
    first: Claims, second: Claims, waits: bool
) -> None:
    for one, other in itertools.permutations((first, second)):
        twins = Twins()
        assert not twins.has("one", one)
        assert twins.has("two", other) is waits
        assert not twins.has("one", one)
        twins.leave("one")
        assert not twins.has("two", other)
