"""Whether an order is made, by what its targets and the state folder say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd.api import Bundle, TargetError
from certd.config import TargetSettings
from certd.errors import CertdError
from certd.model import CertificateSpec, Identifier
from certd.preflight import refuse_in_vain
from certd.store import Store
from certd.testing.chains import bundle

NOW = datetime.now(UTC)
LIFETIME = timedelta(days=100)


@dataclass(frozen=True)
class Shelf:
    """A target with room, or without."""

    why: str = ""

    def deploy(self, bundle: Bundle) -> None:
        raise NotImplementedError

    def serving(self, name: str) -> str | None:
        return None

    def ready(self, name: str) -> None:
        if self.why:
            raise TargetError("no deployment", self.why, "make room")


@dataclass(frozen=True)
class Silent:
    """A target that cannot be asked; the setting of that name is none of ours."""

    ready: str = "yes"

    def deploy(self, bundle: Bundle) -> None:
        raise NotImplementedError

    def serving(self, name: str) -> str | None:
        return None


FULL, ROOM = Shelf("it is full"), Shelf()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store.open(tmp_path)) as store:
        yield store


@pytest.mark.parametrize(
    ("plugins", "left", "ordered"),
    [
        pytest.param([ROOM, ROOM], 0.3, True, id="room everywhere"),
        pytest.param([], 0.3, True, id="no target"),
        pytest.param([Silent(), ROOM], 0.3, True, id="one that cannot be asked"),
        pytest.param([FULL], 0.3, False, id="no room"),
        pytest.param([ROOM, FULL], 0.3, False, id="one without room"),
        pytest.param([ROOM, FULL], 0.04, True, id="one without room, in the last resort"),
        pytest.param([ROOM, FULL], -0.1, True, id="one without room, expired"),
        pytest.param([FULL, FULL], 0.04, False, id="none with room, in the last resort"),
        pytest.param([ROOM, FULL], None, False, id="one without room, the first time"),
    ],
)
def test_nothing_is_ordered_in_vain(
    store: Store, plugins: list[Shelf | Silent], left: float | None, ordered: bool
) -> None:
    targets = {
        f"t{number}": TargetSettings(f"t{number}", "shelf", plugin)
        for number, plugin in enumerate(plugins)
    }
    spec = CertificateSpec(
        "www", (Identifier("dns", "www.example.com"),), ("test",), targets=tuple(targets)
    )
    store.lineages.take_over({"www": spec}, "digest")
    if left is not None:
        store.leases.claim(["www"])
        made, end = bundle(), NOW + LIFETIME * left
        dated = replace(made.certificate, not_before=end - LIFETIME, not_after=end)
        store.versions.adopt(replace(made, certificate=dated), "ec-p256", "test", [], NOW)
    lineage = store.lineages.get("www")
    if ordered:
        refuse_in_vain(spec, lineage, targets, store, NOW)
        return
    with pytest.raises(CertdError, match="nothing was ordered for www: no deployment: it is full"):
        refuse_in_vain(spec, lineage, targets, store, NOW)
