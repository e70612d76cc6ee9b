"""What targets hold is taken back in: from real folders, into a real store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certd_deploy.disk import Disk

from certd.adoption import adopt, adopt_all
from certd.api import Bundle, Pair, TargetError
from certd.config import TargetSettings
from certd.model import CertificateSpec, Identifier
from certd.secrets import Secret
from certd.store import Store
from certd.testing.chains import Authority, bundle, pem
from certd.x509 import csr, facts, new_key

NOW = datetime.now(UTC)
WWW = CertificateSpec(
    "www", (Identifier("dns", "www.example.com"),), ("first", "second"), targets=("web", "mail")
)


class Site:
    """Two disk targets and a store; ``www`` is leased."""

    def __init__(self, folder: Path) -> None:
        self.disks = {name: Disk(folder / name / "{name}") for name in WWW.targets}
        self.targets: dict[str, TargetSettings] = {
            name: TargetSettings(name, "disk", disk) for name, disk in self.disks.items()
        }
        self.store = Store.open(folder / "state")
        self.said: list[str] = []
        self.want(WWW)
        self.store.leases.claim(["www"])

    def want(self, spec: CertificateSpec) -> None:
        self.store.lineages.take_over({spec.name: spec}, repr(spec))

    def adopt(self, spec: CertificateSpec = WWW) -> int | None:
        lineage = self.store.lineages.get("www")
        return adopt(spec, lineage, self.targets, self.store, self._say, NOW)

    def _say(self, name: str, text: str) -> None:
        self.said.append(f"{name}: {text}")

    def states(self) -> Mapping[str, tuple[str, int | None]]:
        targets = self.store.lineages.get("www").targets
        return {name: (state.phase, state.version) for name, state in targets.items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with contextlib.closing(site.store):
        yield site


def made(age: timedelta = timedelta(hours=1), left: timedelta = timedelta(days=89)) -> Bundle:
    """For www, issued so long ago, with so much time left."""
    middle = Authority.root().authority("Intermediate 1", not_after=NOW + timedelta(days=999))
    key = new_key("ec-p256")
    leaf = middle.leaf(key, "www.example.com", not_before=NOW - age, not_after=NOW + left)
    return Bundle("www", 1, pem(leaf), pem(middle.certificate), key, facts(leaf))


def test_what_is_in_place_becomes_current(site: Site) -> None:
    there = made()
    site.disks["web"].deploy(replace(there, version=7))
    assert site.adopt() == 1
    lineage = site.store.lineages.get("www")
    assert lineage.current is not None
    assert lineage.current.certificate == there.certificate
    assert lineage.current.key_type == "ec-p256"
    # The first CA is asked for a renewal window; at which directory it was issued nobody knows.
    assert (lineage.current.ca, lineage.current.directory) == ("first", None)
    assert lineage.ask_again == NOW
    kept = site.store.lineages.bundle("www", 1)
    assert (kept.fullchain_pem, kept.key_pem.reveal()) == (
        there.fullchain_pem,
        there.key_pem.reveal(),
    )
    assert site.states() == {"web": ("applied", 1)}
    assert "taken back in from web as version 1" in site.said[0]
    assert site.adopt() is None


def test_the_newest_of_several_targets_is_taken(site: Site) -> None:
    older, newer = made(timedelta(days=30)), made(timedelta(days=3))
    site.disks["web"].deploy(older)
    site.disks["mail"].deploy(newer)
    site.adopt()
    current = site.store.lineages.get("www").current
    assert current is not None
    assert current.certificate == newer.certificate
    assert site.states() == {"mail": ("applied", 1)}  # web is behind, and gets it


def test_targets_that_hold_the_same_need_no_deployment(site: Site) -> None:
    there = made()
    for disk in site.disks.values():
        disk.deploy(there)
    site.adopt()
    assert site.states() == {"web": ("applied", 1), "mail": ("applied", 1)}


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        pytest.param(timedelta(days=2), 2, id="newer than what is current"),
        pytest.param(timedelta(days=20), None, id="older"),
        pytest.param(timedelta(days=10), None, id="of the same instant"),
    ],
)
def test_beside_an_older_copy_of_the_database(
    site: Site, age: timedelta, taken: int | None
) -> None:
    site.disks["web"].deploy(made(timedelta(days=10)))
    assert site.adopt() == 1
    site.disks["web"].deploy(made(age))
    assert site.adopt() == taken


def test_an_order_under_way_is_over_and_keeps_its_key(site: Site) -> None:
    key = new_key("ec-p256")
    request = csr(key, WWW.identifiers)
    site.store.orders.begin(
        "www", "first", "https://ca/dir", WWW.identifiers, "ec-p256", key, request, None, NOW
    )
    site.disks["web"].deploy(made())
    assert site.adopt() == 1
    assert site.store.orders.live("www") is None
    assert not site.store.lineages.get("www").ordering


def test_a_version_that_is_known_keeps_its_number(site: Site) -> None:
    first, second = made(timedelta(days=9)), made(timedelta(days=5))
    for there in (first, second):
        site.disks["web"].deploy(there)
        site.adopt()
    # As by hand, from an older state of things.
    site.store.versions.adopt(first, "ec-p256", "first", [], NOW)
    assert site.adopt() == 2


def test_an_earlier_version_of_the_same_issuer_knows_the_ca(site: Site) -> None:
    middle = Authority.root().authority("Intermediate 1", not_after=NOW + timedelta(days=999))

    def of(age: int) -> Bundle:
        key = new_key("ec-p256")
        leaf = middle.leaf(
            key,
            "www.example.com",
            not_before=NOW - timedelta(days=age),
            not_after=NOW + timedelta(days=60),
        )
        return Bundle("www", 1, pem(leaf), pem(middle.certificate), key, facts(leaf))

    site.store.versions.adopt(of(9), "ec-p256", "second", [], NOW)
    site.disks["web"].deploy(of(2))
    site.adopt()
    current = site.store.lineages.get("www").current
    assert current is not None
    assert current.ca == "second"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        pytest.param(
            made(left=timedelta(days=-1), age=timedelta(days=90)), "it expired", id="expired"
        ),
        pytest.param(bundle("www", 1, "other.example.com"), "it lacks www.example.com", id="names"),
        pytest.param(
            bundle("www", 1, "www.example.com", "b.example"), "also for b.example", id="more names"
        ),
        pytest.param(
            replace(made(), key_pem=new_key("ec-p256")), "its public key is not", id="another key"
        ),
        pytest.param(replace(made(), key_pem=Secret("x")), "not an unencrypted key", id="no key"),
        pytest.param(replace(made(), leaf_pem="x", chain_pem="y"), "found 2 bytes", id="no leaf"),
        pytest.param(replace(made(), chain_pem=""), "its chain is missing", id="no chain"),
    ],
)
def test_what_is_not_wanted_is_left_where_it_is(
    site: Site, there: Bundle, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:  # as it may have come there without certd
        patched.setattr("certd_deploy.disk.is_pair", lambda folder: True)
        site.disks["web"].deploy(there)
    assert site.adopt() is None
    assert site.store.lineages.get("www").current is None
    assert said in site.said[0]


def test_a_key_of_another_kind_serves_until_it_is_renewed(site: Site) -> None:
    """Where there is nothing else; beside what is current it would only be renewed at once."""
    site.disks["web"].deploy(made())
    rsa = replace(WWW, key_type="rsa-2048")
    site.want(rsa)
    assert site.adopt(rsa) == 1
    site.disks["web"].deploy(made(timedelta(minutes=1)))
    assert site.adopt(rsa) is None


@dataclass(frozen=True)
class Strange:
    """A plugin that has a setting of that name, or whose method does what it likes."""

    recover: object = None

    def deploy(self, bundle: Bundle) -> None:
        raise NotImplementedError

    def serving(self, name: str) -> str | None:
        return None


def failing(error: Exception) -> Strange:
    def recover(name: str) -> Pair | None:
        raise error

    return Strange(recover)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        pytest.param(Strange(), [], id="has none"),
        pytest.param(Strange(lambda name: "certificate"), [], id="no pair"),
        pytest.param(failing(ValueError("hunter2")), [], id="a bug"),
        pytest.param(
            failing(TargetError("a", "no access")),
            ["www: what web holds is not taken back in: no access"],
            id="refused",
        ),
    ],
)
def test_a_target_that_cannot_be_asked_stops_nothing(
    site: Site, plugin: Strange, said: list[str]
) -> None:
    site.targets["web"] = TargetSettings("web", "strange", plugin)
    site.disks["mail"].deploy(made())
    assert site.adopt() == 1
    assert site.said[:-1] == said


def test_what_another_certd_works_on_is_left_to_it(site: Site, tmp_path: Path) -> None:
    site.disks["web"].deploy(made())
    with contextlib.closing(Store.open(tmp_path / "state")) as other:
        assert adopt_all({"www": WWW}, site.targets, other, site._say, NOW) == {}
        site.store.leases.release("www", NOW)
        assert adopt_all({"www": WWW}, site.targets, other, site._say, NOW) == {"www": 1}
    assert site.store.leases.claim_due(NOW, 9) == ["www"]
