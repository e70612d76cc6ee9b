"""What a CA offers, read: renewal information, and which CAs there are."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd.ca import ari
from certd.ca.account import AccountBook
from certd.ca.client import Client
from certd.ca.clients import Clients
from certd.ca.net import Reply
from certd.ca.resources import alternates
from certd.errors import ConfigError
from certd.windows import renewal_instant


class _Telling:
    """A client whose CA answers every question about renewal with this window."""

    def __init__(self, window: object) -> None:
        self._body = json.dumps({"suggestedWindow": window}).encode()

    def renewal_info(self, ari_id: str) -> Reply:
        return Reply(f"https://ca.example/{ari_id}", {}, self._body)


@pytest.mark.parametrize(
    "window",
    [
        pytest.param(
            {"start": "0001-01-01T00:00:00+23:00", "end": "2026-01-01T00:00:00Z"}, id="before time"
        ),
        pytest.param(
            {"start": "2026-01-01T00:00:00Z", "end": "9999-12-31T23:59:59-23:00"}, id="after it"
        ),
        pytest.param({"start": "soon", "end": "later"}, id="words"),
        pytest.param({"start": 1, "end": 2}, id="numbers"),
        pytest.param({"start": "2026-01-01T00:00:00Z"}, id="no end"),
        pytest.param(
            {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, id="backwards"
        ),
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param("2026-01-01T00:00:00Z/P1D", id="an interval"),
        pytest.param({"start": "2026-01-01", "end": "2026-01-01"}, id="no time between them"),
        pytest.param({"start": "2026-01-01T00:00:00Z", "end": "10000-01-01"}, id="the year 10000"),
        pytest.param({"start": "2026-01-01T00:00:00Z", "end": "\ud800"}, id="half a pair"),
        pytest.param({"start": "\x1b[2J" * 9999, "end": "x"}, id="orders to a terminal"),
        pytest.param({"start": ["2026-01-01"], "end": {}}, id="a list and an object"),
    ],
)
def test_a_window_that_is_none_is_no_answer(window: object) -> None:
    with pytest.raises(ari.NoAnswer) as refused:
        ari.ask(cast(Client, _Telling(window)), "a.b")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


_INSTANTS = st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat)


@given(_INSTANTS | st.text(max_size=30), _INSTANTS | st.text(max_size=30), st.floats(0, 0.999))
def test_any_two_instants_are_a_window_or_none(start: str, end: str, draw: float) -> None:
    with suppress(ari.NoAnswer):
        window = ari.ask(cast(Client, _Telling({"start": start, "end": end})), "a.b")
        assert window.start <= renewal_instant(window.start, window.end, draw) < window.end


def test_a_ca_that_is_not_configured_any_more_is_told() -> None:
    clients = Clients({}, cast(AccountBook, None), ())
    with pytest.raises(ConfigError, match=r"cannot ask the CA old.*add \[ca\.old\]"):
        clients("old")


@pytest.mark.parametrize(
    ("header", "urls"),
    [
        pytest.param("", [], id="none"),
        pytest.param('<https://ca.example/dir>;rel="index"', [], id="of something else"),
        pytest.param(
            '<https://ca.example/c/1>; rel="alternate", </c/2>;rel=alternate',
            ["https://ca.example/c/1", "https://ca.example/c/2"],
            id="several, one of them relative",
        ),
        pytest.param(
            '<https://ca.example/a,b>;title="x";rel="up Alternate"',
            ["https://ca.example/a,b"],
            id="a comma in the URL, several relations",
        ),
        pytest.param("<https://ca.example/\x1b[2J>; rel=alternate", [], id="what is no URL"),
        pytest.param('alternate; <<>>>,;rel="alternate"', ["https://ca.example/c/0"], id="noise"),
    ],
)
def test_where_other_chains_are(header: str, urls: list[str]) -> None:
    """RFC 8288; RFC 8555 section 7.4.2."""
    assert list(alternates(Reply("https://ca.example/c/0", {"link": header}, b""))) == urls
