"""For the contracts of all plugins; and the other side of those at AWS.

What stands for AWS is imported when a test wants it: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.http_server import serving

if TYPE_CHECKING:
    from tests.aws_services import Front


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment stands between a provider and its server in a test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """One server for all tests of a worker."""
    from tests.aws_services import running

    with running() as url:
        yield url


@pytest.fixture
def front(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Front:
    """What stands before moto, where nothing is left of other tests."""
    from tests.aws_services import Front, empty

    empty(monkeypatch, tmp_path)
    return Front(moto)


@pytest.fixture
def url(front: Front, request: pytest.FixtureRequest) -> Iterator[str]:
    """Its address. A test module's ``DOCUMENTED`` are the targets whose policies are given."""
    from tests.aws_services import allowed

    with serving(front) as url:
        yield url
    assert set(front.calls) <= allowed(*request.module.DOCUMENTED), "documented policy is enough"
