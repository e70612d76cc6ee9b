"""Targets at the same time, and looked at again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certd import config as configuration
from certd.config import TargetSettings
from certd.errors import TargetBusy, TargetError, Unseen
from certd.model import Bundle, Managed
from certd.store import Store
from tests.rollouts import Plugin, complete, step, store_with_www
from tests.site import Site


@pytest.fixture
def store() -> Iterator[Store]:
    with store_with_www() as store:
        yield store


class Place:
    """A target that keeps what it is given; it tells what it has, and counts."""

    def __init__(self) -> None:
        self.has, self.deployments = "", 0
        self.error: Exception | None = None

    def plugin(self) -> Plugin:
        place = self

        @dataclass(frozen=True)
        class Kept(Plugin):
            def serving(self, name: str) -> str | None:
                if place.error:
                    raise place.error
                return place.has

        def deploys(bundle: Bundle) -> None:
            place.has, place.deployments = bundle.certificate.fingerprint, place.deployments + 1

        return Kept(deploys)


def test_targets_are_deployed_to_at_the_same_time(store: Store) -> None:
    all_there = threading.Barrier(3, timeout=20)

    def deploys(bundle: Bundle) -> None:
        all_there.wait()

    settings = [TargetSettings(name, "plugin", Plugin(deploys)) for name in ("one", "two", "three")]
    states = step(store, *settings)
    assert {state.phase for state in states.values()} == {"verified"}
    assert store.lineages.get("www").targets == states


def test_one_that_fails_leaves_the_others_alone(store: Store) -> None:
    def fail(bundle: Bundle) -> None:
        raise TargetError("no")

    good = TargetSettings("good", "plugin", Plugin(lambda bundle: None))
    states = step(store, TargetSettings("bad", "plugin", Plugin(fail)), good)
    assert (states["bad"].phase, states["good"].phase) == ("failed", "verified")


def test_what_somebody_has_changed_is_put_right(store: Store) -> None:
    place = Place()
    settings = TargetSettings("web", "plugin", place.plugin())
    first = step(store, settings)["web"]
    assert first.phase == "verified"
    assert first.until == store.lineages.bundle("www", 1).certificate.not_after
    assert first.retry_at is not None
    assert timedelta(hours=5) < first.retry_at - datetime.now(UTC) < timedelta(hours=7)

    store.lineages.retry_now("www", datetime.now(UTC), force=False)
    assert step(store, settings)["web"].phase == "verified", "nothing has changed"
    assert place.deployments == 1

    place.has = "f" * 64
    store.lineages.retry_now("www", datetime.now(UTC), force=False)
    drifted = step(store, settings)["web"]
    assert drifted.phase == "pending"
    assert drifted.failure is not None
    assert "another certificate in place" in drifted.failure.what
    right = step(store, settings)["web"]
    assert (right.phase, right.failure, place.deployments) == ("verified", None, 2)


def test_what_cannot_be_looked_at_is_not_deployed_again(store: Store) -> None:
    place = Place()
    settings = TargetSettings("web", "plugin", place.plugin())
    step(store, settings)
    for error in (Unseen("nobody answers"), TargetBusy("slow down"), LookupError("a bug")):
        place.error = error
        store.lineages.retry_now("www", datetime.now(UTC), force=False)
        state = step(store, settings)["web"]
        assert state.phase == "verified"
        assert state.failure is not None
        assert place.deployments == 1
    place.error = None
    store.lineages.retry_now("www", datetime.now(UTC), force=False)
    assert step(store, settings)["web"].failure is None


def test_who_never_is_to_be_looked_at_is_not(store: Store) -> None:
    settings = TargetSettings("web", "plugin", Place().plugin(), look_every=None)
    assert step(store, settings)["web"].retry_at is None


def test_what_the_service_renews_itself_is_shown_and_not_touched(tmp_path: Path) -> None:
    """Asked once for all certificates of the target, and again when it is looked at."""
    asked = []

    @dataclass(frozen=True)
    class Service(Plugin):
        def managed(self) -> list[Managed]:
            asked.append(1)
            ends = datetime(2027, 1, 31, 12, tzinfo=UTC)
            return [Managed("arn:1", ("a.example", "b.example"), ends, "ISSUED")]

    site = Site(tmp_path / "site", None).disk()
    site.certificate("www", "www.example.com", targets=["web"])
    with closing(Store.open(site.state)) as store:
        settings = configuration.load(site.path)
        store.lineages.take_over(settings.certificates, settings.digest, settings.table_digests)
        store.leases.claim(["www"])
        complete(store)
        target = replace(settings.targets["web"], plugin=Service(lambda bundle: None))
        step(store, target)
        store.lineages.retry_now("www", datetime.now(UTC), force=False)
        step(store, target)
    assert len(asked) == 1
    text = site.certd("status").stdout
    assert "at web, not certd's: a.example, b.example: ISSUED, expires 2027-01-31 (arn:1)" in text
    [shown] = json.loads(site.certd("status", "--json").stdout)["managed"]
    assert shown == {
        "target": "web",
        "id": "arn:1",
        "names": ["a.example", "b.example"],
        "not_after": "2027-01-31T12:00:00Z",
        "status": "ISSUED",
    }
