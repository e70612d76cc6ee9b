"""A faulty CA in front of the worker's Pebble."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA


@pytest.fixture
def faulty(pebble: RunningPebble, tmp_path: Path) -> Iterator[FaultyCA]:
    """Honest until it is given rules."""
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        yield ca
