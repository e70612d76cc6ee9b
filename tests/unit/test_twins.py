"""Who may order names that another certificate has too."""

from __future__ import annotations

from certd.model import Identifier
from certd.twins import Names, Twins


def names(*values: str, ca: str = "test") -> Names:
    return ca, frozenset(Identifier("dns", value) for value in values)


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
