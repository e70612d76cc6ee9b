"""For the contracts of all plugins."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment stands between a provider and its server in a test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
