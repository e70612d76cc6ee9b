"""The rollout of a version to a target whose plugin may do anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from certd.config import TargetSettings
from certd.errors import StoreError, TargetError
from certd.model import Bundle, CertificateSpec, TargetState
from certd.rollout import Rollout
from certd.store import Store
from certd.testing.chains import bundle

Deploy = Callable[[Bundle], None]


@dataclass(frozen=True)
class Plugin:
    """A target that does at a deployment what the test says."""

    deploys: Deploy

    def deploy(self, bundle: Bundle) -> None:
        self.deploys(bundle)

    def serving(self, name: str) -> str | None:
        return None


def complete(store: Store) -> None:
    """One more version of www."""
    made = bundle("www")
    (live,) = made.certificate.identifiers
    order = store.orders.begin(
        "www", "test", (live,), "ec-p256", made.key_pem, "csr", None, datetime.now(UTC)
    )
    store.orders.complete(order, made.leaf_pem, made.chain_pem, made.certificate, datetime.now(UTC))


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.in_memory()
    identifiers = bundle("www").certificate.identifiers
    store.lineages.take_over({"www": CertificateSpec("www", identifiers, ("test",))}, "digest")
    store.leases.claim(["www"])
    complete(store)
    yield store
    store.close()


def act(store: Store, deploys: Deploy) -> TargetState:
    rollout = rollout_to(store, deploys)
    return rollout.act(store.lineages.get("www"), "web")


def rollout_to(store: Store, deploys: Deploy) -> Rollout:
    settings = TargetSettings("web", "plugin", Plugin(deploys))
    return Rollout(
        {"web": settings}, store, lambda: datetime.now(UTC), lambda: 0.5, lambda name, text: None
    )


def failing(error: Exception) -> Deploy:
    """Refuses version 2, and raises this when version 1 is put back."""

    def deploy(bundle: Bundle) -> None:
        if bundle.version == 2:
            raise TargetError("version 2 is refused")
        raise error

    return deploy


def test_whatever_a_plugin_raises_while_it_goes_back_is_a_failure_like_any(store: Store) -> None:
    act(store, lambda bundle: None)
    complete(store)
    state = act(store, failing(ZeroDivisionError("s3cret")))
    assert (state.phase, state.version, state.serving) == ("failed", 2, 1)
    assert state.failure is not None
    assert state.failure.what == "version 2 is refused"
    assert "putting version 1 back failed too" in state.failure.why
    assert "ZeroDivisionError" in state.failure.why
    assert "s3cret" not in str(state.failure)
    assert state.retry_at is not None
    assert state.retry_at > datetime.now(UTC)
    assert store.lineages.get("www").targets["web"] == state


def test_a_failure_of_the_store_while_it_goes_back_is_no_failure_of_the_target(
    store: Store,
) -> None:
    act(store, lambda bundle: None)
    complete(store)
    with pytest.raises(StoreError, match="the disk is full"):
        act(store, failing(StoreError("the disk is full")))


def test_a_target_that_was_removed_is_not_known(store: Store) -> None:
    rollout = rollout_to(store, lambda bundle: None)
    assert rollout.knows("web")
    assert not rollout.knows("mail")
