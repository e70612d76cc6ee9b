"""Configurations to read, for the tests that are about reading them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import shelf


@pytest.fixture
def shelf_target(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kind of target, ``shelf``, is installed."""
    folder = tmp_path_factory.mktemp("site")
    shelf.install(folder)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``write(text)`` is the configuration file, in the current folder."""
    # Findings name the file as the operator did: here by its bare name.
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("certd.toml").write_text(text, encoding="utf-8")
        return Path("certd.toml")

    return write
