"""A hub and a machine that pulls from it, for the tests of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.testing.processes import Ports
from tests.machines import Hub, Machine


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Ports() as ports:
        yield Hub(tmp_path, ports)
    for log in tmp_path.rglob("certd.log"):
        assert "Traceback" not in log.read_text()


@pytest.fixture
def machine(hub: Hub) -> Machine:
    return hub.machine("web1", "www")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Machine]]:
    """A hub that runs, for tests that change nothing in its configuration."""
    with Ports() as ports:
        hub = Hub(tmp_path_factory.mktemp("shared"), ports)
        with hub.start():
            yield hub, hub.machine("web1", "www")
