"""A store with a certificate that is to be rolled out, to plugins that do what a test says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from certd.config import TargetSettings
from certd.known import TargetState
from certd.model import Bundle, CertificateSpec
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
        "www",
        "test",
        "https://ca.example/dir",
        (live,),
        "ec-p256",
        made.key_pem,
        "csr",
        None,
        datetime.now(UTC),
    )
    store.orders.complete(order, made.leaf_pem, made.chain_pem, made.certificate, datetime.now(UTC))


@contextlib.contextmanager
def store_with_www() -> Iterator[Store]:
    """www has one version, which nothing was done with."""
    store = Store.in_memory()
    identifiers = bundle("www").certificate.identifiers
    store.lineages.take_over({"www": CertificateSpec("www", identifiers, ("test",))}, "digest")
    store.leases.claim(["www"])
    complete(store)
    yield store
    store.close()


def step(store: Store, *targets: TargetSettings) -> dict[str, TargetState]:
    """One step of www at these targets."""
    rollout = Rollout(
        {one.name: one for one in targets},
        store,
        lambda: datetime.now(UTC),
        lambda: 0.5,
        lambda name, text: None,
    )
    spec = CertificateSpec("www", (), ("test",), targets=tuple(one.name for one in targets))
    return dict(rollout.step(spec, store.lineages.get("www"))[0].targets)
