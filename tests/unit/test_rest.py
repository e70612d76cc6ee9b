"""What providers with an HTTP API have in common."""

from __future__ import annotations

import time

import pytest
from certd_providers import rest
from certd_providers.godaddy import GoDaddy

from certd.api import ProviderBusy, ProviderError, Secret, SecretReference
from tests.http_server import Request, Response, serving


def test_no_part_of_a_secret_is_told_where_long_words_are_cut() -> None:
    with rest.API("Vendor", "https://192.0.2.1", secrets=["s3cret-token"]) as api:
        for length in range(180, 510):
            answer = rest.Answer(400, {}, "x" * length + "s3cret-token and more")
            assert "s3c" not in api.failure(answer).why


def test_pages_that_lead_to_each_other_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(rest, "MOST", 5)
    asked: list[Request] = []

    def same(request: Request) -> Response:
        asked.append(request)
        assert len(asked) < 20
        links = [{"rel": "next", "href": "?page=2"}]
        return Response(200, {"items": [{"domain": "a.example"}], "links": links})

    with serving(same) as url, pytest.raises(ProviderError, match="does not end"):
        GoDaddy(SecretReference("plain", Secret("x")), url).zones()
    assert len(asked) == 5


def test_pages_that_lead_to_each_other_slowly_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(rest, "MOST", 10**9)
    monkeypatch.setattr(rest, "LONGEST", 0.1)
    links = [{"rel": "next", "href": "?page=2"}]
    page = Response(200, {"items": [{"domain": "a.example"}], "links": links})
    until = time.monotonic() + 5

    def slow(_: Request) -> Response:
        return page if time.monotonic() < until else Response(200, {"items": []})

    with serving(slow) as url, pytest.raises(ProviderError, match="does not end"):
        GoDaddy(SecretReference("plain", Secret("x")), url).zones()


@pytest.mark.parametrize("url", ["https://*.example", "https://a..example", "nothing"])
def test_what_is_no_address_is_not_asked_again_and_again(url: str) -> None:
    with rest.API("Vendor", url) as api, pytest.raises(ProviderError) as refused:
        api.get("/zones")
    assert not isinstance(refused.value, ProviderBusy)
