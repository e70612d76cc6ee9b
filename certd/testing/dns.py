"""What every DNS provider must do: a suite for pytest that its author subclasses.

class TestMine(DNSProviderContract):
    @pytest.fixture
    def account(self, ...): return Account(Mine(...), "example.com", values)
"""

# ruff: noqa: S101 - pytest's assertions, in a module that is shipped
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pytest

from certd import contract
from certd.api import DNSProvider, TxtRecord
from certd.contract import FIRST, SECOND, Check, Trial
from certd.impostor import has_secret, wrong_credential


@dataclass
class Account:
    """A provider at a server that behaves as the real one does.

    ``values`` gives what is published at a name, unquoted, as a resolver would see it.
    ``denied`` is the same provider with a credential that the server refuses; None where
    there is no credential. ``secrets`` are texts that no error may hold.
    """

    provider: DNSProvider
    zone: str
    values: Callable[[str], Collection[str]]
    denied: DNSProvider | None = None
    secrets: tuple[str, ...] = ()

    def name(self, label: str) -> str:
        [name] = contract.names_of(self.provider, [f"{label}.{self.zone}"])
        return name


class DNSProviderContract:
    """The tests; ``account`` is a fixture of the subclass."""

    @pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
    def test_contract(self, account: Account, check: Check) -> None:
        if reason := contract.left_out(account.provider, check):
            pytest.skip(reason)
        labels = ("_acme-challenge.www", "_acme-challenge")
        names = [f"{label}.{account.zone}" for label in labels]
        for name in contract.names_of(account.provider, names):
            check(Trial(account.provider, account.zone, name, account.values))

    def test_values_of_others_stay(self, account: Account) -> None:
        """Not only our own two: whoever was there before."""
        if reason := contract.left_out(account.provider, contract.two_values):
            pytest.skip(reason)
        if not getattr(account.provider, "removes", True):
            pytest.skip("removes = False: the newest values stay, whose ever they are")
        name = f"_acme-challenge.{account.zone}"
        account.provider.add_txt(TxtRecord(account.zone, name, "of somebody else", 60))
        with Trial(account.provider, account.zone, name, account.values).clean(FIRST):
            account.provider.add_txt(TxtRecord(account.zone, name, FIRST, 60))
        assert list(account.values(name)) == ["of somebody else"]
        account.provider.remove_txt(TxtRecord(account.zone, name, "of somebody else", 60))

    def test_a_wrong_credential_is_told_as_such(self, account: Account) -> None:
        if account.denied is None:
            assert not has_secret(account.provider), "it has a credential that can be wrong"
            pytest.skip("this provider has no credential")
        changes = [account.denied.add_txt, account.denied.remove_txt]
        record = TxtRecord(account.zone, account.name("_acme-challenge"), SECOND, 60)
        for change in changes if getattr(account.provider, "removes", True) else changes[:1]:
            refused = str(wrong_credential(change, record))
            assert not [secret for secret in account.secrets if secret in refused]
        assert SECOND not in account.values(record.name)

    def test_the_zones_of_the_account_are_known(self, account: Account) -> None:
        zones = getattr(account.provider, "zones", None)
        if not callable(zones):
            pytest.skip("this provider cannot tell its zones")
        assert account.zone in zones()

    def test_no_secret_is_in_its_repr(self, account: Account) -> None:
        assert not [secret for secret in account.secrets if secret in repr(account.provider)]

    def test_its_settings_pass_their_own_checks(self, account: Account) -> None:
        provider: Any = account.provider
        for setting in dataclasses.fields(provider):
            value = getattr(provider, setting.name)
            if "check" in setting.metadata and value is not None:
                setting.metadata["check"](value)
