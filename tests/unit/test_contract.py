"""The contract of DNS providers sees what it is there for, in certd's tests and the operator's."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certd import contract
from certd.api import ProviderBusy, ProviderDenied, ProviderError, TxtRecord
from certd.contract import LONG, Broken, Trial

README = Path(__file__).parents[2] / "providers/README.md"
ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"


@dataclass
class Memory:
    """A zone that keeps the contract, and a subclass that does not in one way."""

    zone: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_txt(self, record: TxtRecord) -> None:
        if record.zone != ZONE:
            raise ProviderError("no such zone")
        if record.value not in self.zone[record.name]:
            self.zone[record.name].append(record.value)

    def remove_txt(self, record: TxtRecord) -> None:
        if record.value in self.zone[record.name]:
            self.zone[record.name].remove(record.value)

    def values(self, name: str) -> list[str]:
        return list(self.zone[name])


class Replaces(Memory):
    def add_txt(self, record: TxtRecord) -> None:
        self.zone[record.name] = [record.value]


class One(Replaces):
    most_values = 1

    def add_txt(self, record: TxtRecord) -> None:
        if record.zone != ZONE:
            raise ProviderError("no such zone")
        super().add_txt(record)


class RefusesMore(Memory):
    most_values = 2

    def add_txt(self, record: TxtRecord) -> None:
        there = self.zone[record.name]
        if record.value not in there and len(there) == self.most_values:
            raise ProviderError("too many")
        super().add_txt(record)


class HasMoreRoom(Memory):
    most_values = 2


class HasLessRoom(Memory):
    def add_txt(self, record: TxtRecord) -> None:
        super().add_txt(record)
        self.zone[record.name] = self.zone[record.name][-2:]


class CallsItBusy(RefusesMore):
    def add_txt(self, record: TxtRecord) -> None:
        try:
            super().add_txt(record)
        except ProviderError:
            raise ProviderBusy("too many") from None


class RemovesAfterAll(Memory):
    removes = False


class CutsLong(Memory):
    def add_txt(self, record: TxtRecord) -> None:
        super().add_txt(dataclasses.replace(record, value=record.value[:255]))


class RefusesLong(Memory):
    def add_txt(self, record: TxtRecord) -> None:
        if len(record.value) > 255:
            raise ProviderError("too long")
        super().add_txt(record)


class RefusesLongTooLate(CutsLong):
    def add_txt(self, record: TxtRecord) -> None:
        super().add_txt(record)
        if len(record.value) > 255:
            raise ProviderError("too long")


class TakesAnyZone(Memory):
    def add_txt(self, record: TxtRecord) -> None:
        super().add_txt(dataclasses.replace(record, zone=ZONE))


class ByHand(TakesAnyZone):
    by_hand = True


def broken(provider: Any) -> dict[str, str]:
    """The checks that it does not pass, and why."""
    found = {}
    for check in contract.checks(provider):
        provider.zone.clear()
        try:
            check(Trial(provider, ZONE, NAME, provider.values))
        except (Broken, ProviderError) as error:
            found[check.__name__] = str(error)
    return found


@pytest.mark.parametrize("kind", [Memory, One, RefusesMore, RefusesLong, ByHand])
def test_who_keeps_the_contract_passes(kind: type[Memory]) -> None:
    assert broken(kind()) == {}


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        pytest.param(Replaces, "two_values", "two were added", id="one value, and does not say it"),
        pytest.param(HasMoreRoom, "room", "instead of 2 with the newest", id="more than it says"),
        pytest.param(HasLessRoom, "room", "3 were added", id="a limit that it does not say"),
        pytest.param(CallsItBusy, "room", "too many", id="would be tried again for ever"),
        pytest.param(RemovesAfterAll, "one_value", "nothing instead of 6sX", id="it does remove"),
        pytest.param(CutsLong, "long_value", "… (246 characters) instead of", id="cut"),
        pytest.param(RefusesLongTooLate, "long_value", "refused", id="refused, but cut and there"),
        pytest.param(TakesAnyZone, "unknown_zone", "not of the account", id="any zone is good"),
    ],
)
def test_who_does_not_is_told_how(kind: type[Memory], check: str, said: str) -> None:
    assert said in broken(kind())[check]


def test_a_value_that_nobody_could_read_is_told_short() -> None:
    told = broken(CutsLong())["long_value"]
    assert LONG[:255] not in told
    assert len(told) < 200


@pytest.mark.parametrize("kind", [Memory, One, HasMoreRoom, RemovesAfterAll, ByHand])
def test_what_is_left_out_is_left_out_for_what_the_guide_explains(kind: type[Memory]) -> None:
    guide = README.read_text(encoding="utf-8").split("## Adding a provider")[1]
    for check in contract.CHECKS:
        if reason := contract.left_out(kind(), check):
            declared = reason.partition(":")[0].partition(" ")[0]
            assert f"| `{declared}` |" in guide


def test_a_refusal_is_no_long_value_where_it_is_only_passing() -> None:
    class Later(Memory):
        def add_txt(self, record: TxtRecord) -> None:
            raise ProviderBusy("not now")

    with pytest.raises(ProviderBusy):
        contract.long_value(Trial(Later(), ZONE, NAME, lambda _: []))


def test_a_wrong_credential_is_no_reason_to_find_a_limit_kept() -> None:
    class Denied(RefusesMore):
        def add_txt(self, record: TxtRecord) -> None:
            try:
                super().add_txt(record)
            except ProviderError:
                raise ProviderDenied("not you") from None

    assert "not you" in broken(Denied())["room"]
