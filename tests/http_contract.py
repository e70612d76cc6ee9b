"""What each provider with an HTTP API must do besides the contract: when the way to it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from certd.api import DNSProvider, ProviderBusy, ProviderDenied, ProviderError, TxtRecord
from certd.contract import FIRST, SECOND
from certd.testing.dns import Account, DNSProviderContract
from tests.fake_api import (
    NAME,
    READER,
    TOKEN,
    WRONG,
    ZONE,
    FakeAPI,
    Request,
    Response,
    challenge,
    text,
    undone,
)

PASSING = [
    pytest.param(Response(429, {}, {"Retry-After": "7"}), 7.0, id="429 says how long"),
    pytest.param(Response(429, b"slow down"), None, id="429 says nothing"),
    pytest.param(Response(500, {"message": "oops"}), None, id="500"),
    pytest.param(Response(502, b"<html>"), None, id="502"),
    pytest.param(Response(503, b"<html>", {"Retry-After": "120"}), 120.0, id="503"),
    pytest.param(Response(504, b"<html>"), None, id="504"),
    pytest.param(None, None, id="the connection is lost"),
]


class HTTPProviderContract(DNSProviderContract):
    """Beside the contract: what goes wrong between here and the API.

    A subclass has the fixtures ``fake`` and ``account``.
    """

    lenient = False  # an answer of the service has nothing that could be missed
    signs = False  # a request has no secret in it
    refused: type[ProviderError] = ProviderDenied  # by 401 and 403

    def record(self, account: Account, value: str = FIRST) -> TxtRecord:
        return TxtRecord(account.zone, account.name("_acme-challenge"), value, 60)

    @pytest.mark.parametrize(("reply", "wait"), PASSING)
    def test_what_passes_is_told_as_passing(
        self, account: Account, fake: FakeAPI, reply: Response | None, wait: float | None
    ) -> None:
        """At the first look, and at the first write."""
        record = self.record(account)
        account.provider.add_txt(record)
        asked = {fake.is_write(request) for request in fake.requests}
        account.provider.remove_txt(record)
        for writing in sorted(asked):
            there = list(account.values(record.name))
            fake.fault(reply, writing=writing)
            with pytest.raises(ProviderBusy) as busy:
                account.provider.add_txt(record)
            assert busy.value.retry_after == wait
            assert list(account.values(record.name)) == there
        account.provider.add_txt(record)
        assert list(account.values(record.name)) == [FIRST]
        account.provider.remove_txt(record)

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refusal_is_told_with_what_is_needed(
        self, account: Account, fake: FakeAPI, status: int
    ) -> None:
        fake.fault(Response(status, {"message": "no"}), writing=True)
        with pytest.raises(ProviderError) as refused:
            account.provider.add_txt(self.record(account))
        assert type(refused.value) is self.refused
        assert refused.value.next
        assert list(account.values(self.record(account).name)) == []

    @pytest.mark.parametrize(
        "body", ["", "<html>sign in</html>", "[]", "[[]]", "{", "{}", "7", "null", '{"a": 1}']
    )
    def test_an_answer_that_is_not_its_own_is_an_error(
        self, fake: FakeAPI, account: Account, body: str
    ) -> None:
        """A proxy's page, say: it says 200, and nothing was done. At least no mistake of ours."""
        for change in (account.provider.add_txt, account.provider.remove_txt):
            for _ in range(9):
                fake.fault(text(200, body))
            expected = change == account.provider.add_txt and not self.lenient
            error = pytest.raises if expected else contextlib.suppress
            with error(ProviderError):
                change(self.record(account))
            fake.faults.clear()
        assert list(account.values(self.record(account).name)) == []

    def test_what_is_lost_after_it_was_done_is_done_once(
        self, fake: FakeAPI, account: Account
    ) -> None:
        """Each answer in turn: the same call again finds what the one before has done."""
        record, provider = self.record(account), account.provider
        both = [(provider.add_txt, provider.remove_txt, [FIRST])]
        if getattr(provider, "removes", True):
            both.append((provider.remove_txt, provider.add_txt, []))
        for change, undo, left in both:
            undo(record)
            begun = len(fake.requests)
            change(record)
            for number in range(len(fake.requests) - begun):
                undo(record)
                fake.fault(None, after=True, skip=number)
                with pytest.raises(ProviderBusy):
                    change(record)
                change(record)
                assert list(account.values(record.name)) == left

    def test_nothing_of_a_credential_is_logged_or_said(
        self, fake: FakeAPI, account: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        record = self.record(account, SECOND)
        account.provider.add_txt(record)
        account.provider.remove_txt(record)
        told: set[str] = set()

        def echo(request: Request, status: int) -> Response:
            if not fake.is_write(request):
                return fake.answer(request)
            sent = f"{request.target} {list(request.headers.items())} {request.body!r}"
            mine = {secret for secret in account.secrets if secret in sent}
            scheme, _, credential = request.headers.get("Authorization", "").partition(" ")
            if scheme in ("Basic", "Bearer", "Token"):
                mine.add(credential)
            told.update(mine)
            words = "; ".join(sorted(mine))
            return Response(status, {"message": words, "error": words})

        for status in (400, 401, 404, 500):
            fake.before = functools.partial(echo, status=status)
            with pytest.raises(ProviderError) as refused:
                account.provider.add_txt(record)
            assert told or self.signs, "it says who it is"
            assert not [secret for secret in told if secret in str(refused.value)]
        assert not [secret for secret in (*told, *account.secrets) if secret in caplog.text]


class TokenProviderContract(HTTPProviderContract):
    """Of those whose credential is one token: ``provider`` is a fixture too, a function of it."""

    minimum_ttl: int  # seconds
    account_zones: frozenset[str]

    @pytest.fixture
    def account(self, fake: Any, provider: Callable[[str], DNSProvider]) -> Account:
        denied = provider(WRONG)
        return Account(provider(TOKEN), ZONE, fake.published, denied, (TOKEN, WRONG))

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


class WholeSetContract(TokenProviderContract):
    """Of an API that takes a record set as a whole: who writes it last has written it."""

    def test_what_somebody_else_undoes_is_done_again(self, fake: FakeAPI, account: Account) -> None:
        """Who has read the set before us, and writes it after us."""
        for change, left in (
            (account.provider.add_txt, [FIRST]),
            (account.provider.remove_txt, []),
        ):
            undone(fake, 1)
            change(challenge())
            assert fake.published(NAME) == left
            assert len(fake.writes) == 2
            fake.requests.clear()
            change(challenge())
            assert not fake.writes
        undone(fake, 2)
        with pytest.raises(ProviderBusy, match="undone the change"):
            account.provider.add_txt(challenge())
        assert len(fake.writes) == 2


class AccessTokenContract(HTTPProviderContract):
    """Of a service that gives tokens for an hour; a subclass has those that are good as the
    fixture ``tokens``.
    """

    def test_an_access_token_is_kept_until_it_is_refused(
        self, fake: FakeAPI, account: Account, tokens: dict[str, str]
    ) -> None:
        one, record = account.provider, self.record(account)
        one.add_txt(record)
        one.remove_txt(record)
        assert list(tokens) == ["token-1"]
        assert "token-1" not in repr(one)
        tokens.clear()
        with pytest.raises(ProviderBusy, match="another access token"):
            one.add_txt(record)
        one.add_txt(record)
        assert len(tokens) == 1
        # A new one that is refused is no matter of its age.
        fake.before = lambda _: Response(401, {"error": {"code": "no", "message": "no"}})
        with pytest.raises(ProviderBusy):
            one.remove_txt(record)
        with pytest.raises(ProviderDenied):
            one.remove_txt(record)
