"""A faulty CA in front of the worker's Pebble."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from certd.store import Store
from certd.testing import pebble_binary
from certd.testing.pebble import RunningPebble
from certd.testing.proxy import FaultyCA
from tests.faults.world import World, started
from tests.site import Site


@pytest.fixture
def faulty(pebble: RunningPebble, tmp_path: Path) -> Iterator[FaultyCA]:
    """Honest until it is given rules."""
    with FaultyCA(pebble, tmp_path / "proxy") as ca:
        yield ca


@pytest.fixture(scope="session")
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with nothing in it but tables: making those takes longer than most tests."""
    state = tmp_path_factory.mktemp("tables") / "state"
    Store.open(state).close()
    return state


@pytest.fixture
def site(faulty: FaultyCA, _tables: Path, tmp_path: Path) -> Site:
    """One certificate, ``www``, wanted from the faulty CA."""
    site = Site(tmp_path / "site", faulty)
    shutil.copytree(_tables, site.state)
    return site.certificate("www", "www.example.com")


@pytest.fixture
def second(pebble: RunningPebble, tmp_path: Path) -> Iterator[FaultyCA]:
    with FaultyCA(pebble, tmp_path / "second") as ca:
        yield ca


@pytest.fixture
def both(site: Site, second: FaultyCA) -> Site:
    """``www`` is wanted from the faulty CA, named ``test``, or else from ``second``."""
    table = {"directory": second.directory, "ca_bundle": str(second.ca_bundle)}
    site.tables["ca.second"] = {**table, "agree_tos": True}
    return site.certificate("www", "www.example.com", ca=["test", "second"])


@pytest.fixture(scope="session")
def world(
    _pebble_binaries: pebble_binary.Binaries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with started(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
def asked(world: World, tmp_path: Path) -> Iterator[FaultyCA]:
    """A faulty CA in front of the one that asks by DNS."""
    world.stub.honest()
    with FaultyCA(world.pebble, tmp_path / "proxy") as ca:
        yield ca


@pytest.fixture
def named(asked: FaultyCA, world: World, _tables: Path, tmp_path: Path) -> Site:
    """A site that writes the zones of ``world.quick`` by [dns.main], and wants nothing yet."""
    site = Site(tmp_path / "site", asked)
    shutil.copytree(_tables, site.state)
    return world.at(site, world.quick)
