"""Access tokens of DNS providers: asked for once, kept while good, forgotten when refused."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from certd_providers.tokens import LEFT, Token, Tokens

from certd.api import ProviderBusy, Secret

LONG = 10.0  # seconds; nothing waits for so long unless it is broken


@dataclass
class Vendor:
    lifetime: float = 3600.0
    asked: int = 0
    failing: list[Exception] = field(default_factory=list)
    back: threading.Event | None = None

    def fetch(self) -> Token:
        self.asked += 1
        if self.back:
            assert self.back.wait(LONG)
        if self.failing:
            raise self.failing.pop()
        return Token(Secret(f"token {self.asked}"), time.time() + self.lifetime)


def test_a_token_is_asked_for_once() -> None:
    vendor, tokens = Vendor(), Tokens()
    assert tokens.get("key", vendor.fetch) is tokens.get("key", vendor.fetch)
    assert vendor.asked == 1
    assert "token 1" not in f"{tokens!r} {vars(tokens)}"


@pytest.mark.parametrize(("lifetime", "asked"), [(LEFT - 1, 2), (LEFT + LONG, 1)])
def test_one_that_ends_soon_is_not_kept(lifetime: float, asked: int) -> None:
    vendor, tokens = Vendor(lifetime), Tokens()
    for _ in range(2):
        tokens.get("key", vendor.fetch)
    assert vendor.asked == asked


def test_another_credential_has_another_token() -> None:
    vendor, tokens = Vendor(), Tokens()
    given = [tokens.get(key, vendor.fetch).text.reveal() for key in ("old", "new", "new")]
    assert given == ["token 1", "token 2", "token 2"]


def test_a_failure_keeps_nothing() -> None:
    vendor, tokens = Vendor(failing=[ProviderBusy("no")]), Tokens()
    with pytest.raises(ProviderBusy):
        tokens.get("key", vendor.fetch)
    assert tokens.get("key", vendor.fetch).text.reveal() == "token 2"


def test_only_one_that_was_kept_may_be_refused_for_its_age() -> None:
    vendor, tokens = Vendor(), Tokens()
    tokens.get("key", vendor.fetch)
    assert not tokens.refused()
    for _ in range(2):
        tokens.get("key", vendor.fetch)
    assert tokens.refused()
    assert tokens.get("key", vendor.fetch).text.reveal() == "token 3"
    assert not tokens.refused()


def test_of_several_threads_one_asks() -> None:
    vendor, tokens = Vendor(back=threading.Event()), Tokens()
    assert vendor.back
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(tokens.get, "key", vendor.fetch) for _ in range(4)]
        vendor.back.set()
        assert {one.result(LONG).text.reveal() for one in waiting} == {"token 1"}
    assert vendor.asked == 1
