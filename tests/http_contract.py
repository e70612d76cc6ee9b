"""What each provider with an HTTP API must do besides the contract: when the way to it fails."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from certd.api import DNSProvider, ProviderBusy, ProviderDenied, ProviderError
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account, DNSProviderContract
from tests.fake_api import NAME, READER, TOKEN, WRONG, ZONE, FakeAPI, Reply, challenge


class HTTPProviderContract(DNSProviderContract):
    """Beside the contract: what goes wrong between here and the API.

    A subclass has the fixtures ``fake`` and ``provider`` (a function from a token to a provider).
    """

    minimum_ttl: int  # seconds
    account_zones: frozenset[str]

    @pytest.fixture
    def account(self, fake: Any, provider: Callable[[str], DNSProvider]) -> Account:
        denied = provider(WRONG)
        return Account(provider(TOKEN), ZONE, fake.published, denied, (TOKEN, WRONG))

    @pytest.fixture(autouse=True)
    def _no_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    @pytest.mark.parametrize("writing", [False, True], ids=["reading", "writing"])
    @pytest.mark.parametrize(
        ("reply", "wait"),
        [
            pytest.param(Reply(429, {}, {"Retry-After": "7"}), 7.0, id="429 says how long"),
            pytest.param(Reply(429, b"slow down"), None, id="429 says nothing"),
            pytest.param(Reply(500, {"message": "oops"}), None, id="500"),
            pytest.param(Reply(503, b"<html>", {"Retry-After": "120"}), 120.0, id="503"),
            pytest.param(None, None, id="the connection is lost"),
        ],
    )
    def test_what_passes_is_told_as_passing(
        self,
        account: Account,
        fake: FakeAPI,
        writing: bool,
        reply: Reply | None,
        wait: float | None,
    ) -> None:
        fake.fault(reply, writing=writing)
        with pytest.raises(ProviderBusy) as busy:
            account.provider.add_txt(challenge())
        assert busy.value.retry_after == wait
        assert fake.published(NAME) == []

    def test_an_answer_that_is_lost_after_the_write_does_no_harm(
        self, account: Account, fake: FakeAPI
    ) -> None:
        fake.fault(None, writing=True, after=True)
        with pytest.raises(ProviderBusy):
            account.provider.add_txt(challenge())
        account.provider.add_txt(challenge())
        account.provider.add_txt(challenge(SECOND))
        assert sorted(fake.published(NAME)) == sorted([FIRST, SECOND])
        fake.fault(None, writing=True, after=True)
        with pytest.raises(ProviderBusy):
            account.provider.remove_txt(challenge())
        account.provider.remove_txt(challenge())
        assert fake.published(NAME) == [SECOND]

    def test_a_token_that_may_only_read_is_told_what_it_lacks(
        self, fake: FakeAPI, provider: Callable[[str], Any]
    ) -> None:
        reader = provider(READER)
        with pytest.raises(ProviderDenied) as denied:
            reader.add_txt(challenge())
        assert denied.value.next in reader.credential
        assert READER not in str(denied.value)
        assert fake.published(NAME) == []

    def test_a_zone_of_somebody_else_is_told_at_removal_too(self, account: Account) -> None:
        record = challenge(zone="elsewhere.example", name="_acme-challenge.elsewhere.example")
        with pytest.raises(ProviderError, match=r"no zone elsewhere\.example"):
            account.provider.remove_txt(record)

    @pytest.mark.parametrize("body", [b"<html>hello</html>", {}, [], [[]], b"7"], ids=repr)
    def test_an_answer_of_another_shape_is_no_mistake_of_ours(
        self, account: Account, fake: FakeAPI, body: Any
    ) -> None:
        for _ in range(9):
            fake.fault(Reply(200, body))
        with contextlib.suppress(ProviderError):
            account.provider.add_txt(challenge())
        with contextlib.suppress(ProviderError):
            account.provider.remove_txt(challenge())
        fake.faults.clear()
        assert fake.published(NAME) == []

    @pytest.mark.parametrize("tail", ["\n", "é", "€"])
    def test_a_token_that_cannot_be_sent_is_refused_here(
        self, fake: FakeAPI, provider: Callable[[str], DNSProvider], tail: str
    ) -> None:
        with pytest.raises(ProviderDenied) as denied:
            provider(f"{TOKEN}{tail}x").add_txt(challenge())
        assert TOKEN not in str(denied.value)
        assert fake.requests == []

    def test_the_ttl_is_ours_but_not_below_the_least(self, account: Account, fake: FakeAPI) -> None:
        account.provider.add_txt(challenge(ttl=1))
        assert fake.ttl(NAME) == self.minimum_ttl
        name = f"_acme-challenge.long.{ZONE}"
        account.provider.add_txt(challenge(name=name, ttl=self.minimum_ttl + 60))
        assert fake.ttl(name) == self.minimum_ttl + 60

    def test_nothing_is_written_that_is_there_already(
        self, account: Account, fake: FakeAPI
    ) -> None:
        account.provider.remove_txt(challenge())
        assert fake.writes == []
        account.provider.add_txt(challenge())
        before = len(fake.writes)
        account.provider.add_txt(challenge())
        account.provider.remove_txt(challenge(SECOND))
        assert len(fake.writes) == before

    def test_zones_are_those_of_every_page(self, account: Account) -> None:
        provider: Any = account.provider
        assert sorted(provider.zones()) == sorted(self.account_zones)

    @pytest.mark.parametrize(
        "url",
        ["", "api.example", "ftp://api.example", "http://api.example", "https://u:p@api.example",
         "https://api.example/?x", "https://[::1"],
    )  # fmt: skip
    def test_an_address_that_would_not_do_is_refused(self, account: Account, url: str) -> None:
        provider: Any = account.provider
        check = {each.name: each for each in dataclasses.fields(provider)}["url"].metadata["check"]
        with pytest.raises(Exception, match=r"address|clear text|credential"):
            check(url)
        check("https://api.example/v1")
