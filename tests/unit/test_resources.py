"""What a CA offers, read: renewal information, and which CAs there are."""

from __future__ import annotations

import json
from typing import cast

import pytest

from certd.ca import ari
from certd.ca.account import AccountBook
from certd.ca.client import Client
from certd.ca.clients import Clients
from certd.ca.net import Reply
from certd.errors import ConfigError


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
    ],
)
def test_a_window_that_is_none_is_no_answer(window: object) -> None:
    with pytest.raises(ari.NoAnswer):
        ari.ask(cast(Client, _Telling(window)), "a.b")


def test_a_ca_that_is_not_configured_any_more_is_told() -> None:
    clients = Clients({}, cast(AccountBook, None), ())
    with pytest.raises(ConfigError, match=r"cannot ask the CA old.*add \[ca\.old\]"):
        clients("old")
