"""Compute Engine against a server that behaves as documented, in the forms of its discovery."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, ClassVar

import pytest
from certd_deploy import google_compute, googlecloud
from certd_deploy.google_compute import GoogleCompute

from certd.api import Bundle, ConfigError, Managed, TargetBusy, TargetError, fingerprint
from certd.testing.chains import bundle
from certd.testing.targets import Pair
from tests.cloud_contract import CloudTargetContract
from tests.fake_google_account import PROJECT, problem
from tests.fake_google_compute import API, Compute, forms
from tests.google_services import ROBOT, Service
from tests.http_server import Request, Response

GLOBAL = f"projects/{PROJECT}/global"
OTHERS = (f"{API}/{GLOBAL}/sslCertificates/first", f"{API}/{GLOBAL}/sslCertificates/last")
# What GoogleCompute.credential says, and nothing else.
LEAST = (
    *(f"compute.sslCertificates.{verb}" for verb in ("create", "get", "list", "delete")),
    *(f"compute.targetHttpsProxies.{verb}" for verb in ("get", "update", "setSslCertificates")),
    "compute.globalOperations.get",
)
REGIONAL = tuple(
    one.replace("ssl", "regionSsl", 1).replace("target", "regionTarget").replace("global", "region")
    if "setSsl" not in one
    else "compute.regionTargetHttpsProxies.setSslCertificates"
    for one in LEAST
)


@pytest.fixture
def google() -> Compute:
    google = Compute(forms())
    for name in ("first", "last"):
        google.used.add(f"{GLOBAL}/sslCertificates/{name}")
    google.proxy("web", OTHERS[0])
    return google


@pytest.fixture
def fake(google: Compute) -> Iterator[Service]:
    with Service(google, *LEAST).open() as service:
        yield service


def made(fake: Service, *proxies: str, **settings: Any) -> GoogleCompute:
    return GoogleCompute(fake.account, url=fake.url, proxies=proxies or ("web",), **settings)


@pytest.fixture
def target(fake: Service) -> GoogleCompute:
    return made(fake)


def name_of(wanted: Bundle) -> str:
    return f"certd-{wanted.name}-{wanted.certificate.fingerprint[:16]}"


class TestCompute(CloudTargetContract):
    module: ClassVar[ModuleType] = google_compute
    refused: ClassVar[str] = "compute.sslCertificates.create"
    secrets: ClassVar[tuple[str, ...]] = ("token-1",)

    @pytest.fixture(autouse=True)
    def _google(self, google: Compute) -> None:
        self.google = google

    def in_place(self, target: Any, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        ours = [one for one in self.google.links("web") if one.startswith(f"certd-{name}-")]
        if not ours:
            return None
        [one] = ours
        at = f"{GLOBAL}/sslCertificates/{one}"
        return Pair(self.google.certificates[at]["certificate"], self.google.keys[at])

    def forbid(self) -> None:
        self.google.may[ROBOT] = frozenset(one for one in LEAST if one.endswith((".get", ".list")))


def test_googles_own_client_reads_what_was_written(fake: Service, target: GoogleCompute) -> None:
    wanted = bundle()
    target.deploy(wanted)
    may = ("compute.targetHttpsProxies.get", "compute.sslCertificates.get")
    with fake.official("compute", *may, path="/compute/v1/") as client:
        proxy = client.targetHttpsProxies().get(project=PROJECT, targetHttpsProxy="web").execute()
        link = proxy["sslCertificates"][-1]
        name = link.rpartition("/")[2]
        found = client.sslCertificates().get(project=PROJECT, sslCertificate=name).execute()
    assert found["selfLink"] == link
    assert found["certificate"] == wanted.fullchain_pem
    assert fingerprint(found["certificate"]) == target.serving("www")
    assert "privateKey" not in found


def test_a_version_takes_the_place_of_the_one_before_and_others_stay(
    google: Compute, target: GoogleCompute
) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    google.proxies[f"{GLOBAL}/targetHttpsProxies/web"]["sslCertificates"].append(OTHERS[1])
    target.deploy(second)
    assert google.links("web") == ["first", name_of(second), "last"]
    assert list(google.certificates) == [f"{GLOBAL}/sslCertificates/{name_of(second)}"]


def test_what_another_proxy_still_uses_is_removed_later(
    google: Compute, target: GoogleCompute, fake: Service
) -> None:
    google.proxy("shop", OTHERS[0])
    both = made(fake, "web", "shop")
    versions = [bundle("www", number) for number in (1, 2, 3)]
    both.deploy(versions[0])
    target.deploy(versions[1])
    assert google.links("shop") == ["first", name_of(versions[0])]
    assert len(google.certificates) == 2
    assert both.serving("www") == versions[0].certificate.fingerprint
    assert target.serving("www") == versions[1].certificate.fingerprint
    both.deploy(versions[2])
    assert google.links("shop") == google.links("web") == ["first", name_of(versions[2])]
    assert len(google.certificates) == 1
    assert both.serving("www") == versions[2].certificate.fingerprint


def test_a_proxy_that_has_lost_it_is_noticed_and_put_right(google: Compute, fake: Service) -> None:
    google.proxy("shop", OTHERS[0])
    both, wanted = made(fake, "web", "shop"), bundle()
    both.deploy(wanted)
    google.proxies[f"{GLOBAL}/targetHttpsProxies/shop"]["sslCertificates"] = [OTHERS[0]]
    assert both.serving("www") == ""
    both.deploy(wanted)
    assert both.serving("www") == wanted.certificate.fingerprint
    assert [request.method for request in fake.writes] == ["POST", "PATCH", "PATCH", "PATCH"]


def test_only_versions_of_the_lineage_are_removed(google: Compute, target: GoogleCompute) -> None:
    """Also where its name is the beginning of another's."""
    longer = bundle("www-1", 1, "a.example.com")
    target.deploy(longer)
    google.proxies[f"{GLOBAL}/targetHttpsProxies/web"]["sslCertificates"] = [OTHERS[0]]
    for number in (1, 2):
        target.deploy(bundle("www", number))
    assert f"{GLOBAL}/sslCertificates/{name_of(longer)}" in google.certificates
    assert len(google.certificates) == 2


def test_a_removal_that_fails_is_no_reason_to_go_back(
    google: Compute, target: GoogleCompute, caplog: pytest.LogCaptureFixture
) -> None:
    google.may[ROBOT] = frozenset(LEAST) - {"compute.sslCertificates.delete"}
    for number in (1, 2):
        wanted = bundle("www", number)
        target.deploy(wanted)
        assert google.links("web") == ["first", name_of(wanted)]
    assert "compute.sslCertificates.delete" in caplog.text


def test_nothing_of_somebody_elses_change_is_lost(
    fake: Service, google: Compute, target: GoogleCompute
) -> None:
    wanted = bundle()

    def overtake(request: Request) -> Response:
        if request.method == "PATCH":
            fake.before = None
            google.proxies[f"{GLOBAL}/targetHttpsProxies/web"]["sslCertificates"] += [OTHERS[1]]
        return google(request)

    fake.before = overtake
    target.deploy(wanted)
    assert google.links("web") == ["first", "last", name_of(wanted)]
    assert [request.method for request in fake.writes] == ["PATCH"]


def test_certificates_that_share_a_proxy_may_be_renewed_at_once(
    google: Compute, target: GoogleCompute
) -> None:
    for version in (1, 2):
        wanted = [bundle(f"site-{number}", version, "a.example.com") for number in range(8)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(target.deploy, wanted))
        assert google.links("web")[0] == "first"
        assert sorted(google.links("web")[1:]) == sorted(map(name_of, wanted))
        assert len(google.certificates) == 8


def test_a_proxy_that_is_just_being_changed_is_waited_for(
    fake: Service, google: Compute, target: GoogleCompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, busy = bundle(), problem(400, "resourceNotReady", "x")
    fake.fault(busy, writing=True, skip=1)
    target.deploy(wanted)
    assert google.links("web") == ["first", name_of(wanted)]
    monkeypatch.setattr(googlecloud, "PATIENCE", 0.01)
    for _ in range(99):
        fake.fault(busy, writing=True, skip=1)
    with pytest.raises(TargetBusy, match="a change of web lasts"):
        target.deploy(bundle("www", 2))


def test_a_certificate_that_is_just_being_made_is_busy(
    fake: Service, target: GoogleCompute
) -> None:
    fake.fault(problem(409, "alreadyExists"), writing=True)
    with pytest.raises(TargetBusy, match="just being made"):
        target.deploy(bundle())


def test_proxies_of_a_region(google: Compute, fake: Service) -> None:
    where = "regions/europe-west1"
    google.proxy("inner", where=where)
    google.may[ROBOT] = frozenset(REGIONAL)
    one, wanted = made(fake, "inner", region="europe-west1"), bundle()
    one.deploy(wanted)
    one.deploy(bundle("www", 2))
    one.deploy(wanted)
    assert google.links("inner", where) == [name_of(wanted)]
    assert list(google.certificates) == [
        f"projects/{PROJECT}/{where}/sslCertificates/{name_of(wanted)}"
    ]
    assert one.serving("www") == wanted.certificate.fingerprint
    assert one.place("www") != made(fake, "inner").place("www")


def test_a_long_name_is_cut(google: Compute, target: GoogleCompute) -> None:
    first = bundle("a" * 64, 1, "a.example.com")
    second = bundle("a" * 63 + "b", 1, "a.example.com")
    target.deploy(first)
    target.deploy(second)
    assert len(google.links("web")) == 3
    assert target.serving(first.name) == first.certificate.fingerprint
    assert target.serving(second.name) == second.certificate.fingerprint


def test_a_quota_that_is_used_up_is_no_reason_to_go_back(
    google: Compute, target: GoogleCompute
) -> None:
    google.most = 0
    with pytest.raises(TargetBusy, match="SSL_CERTIFICATES") as busy:
        target.deploy(bundle())
    assert "have the quota raised" in busy.value.next


@pytest.mark.parametrize(
    ("code", "passing"), [("QUOTA_EXCEEDED", True), ("INTERNAL_ERROR", True), ("INVALID", False)]
)
def test_an_operation_that_fails_says_why(
    google: Compute, target: GoogleCompute, code: str, passing: bool
) -> None:
    google.fails = {"code": code, "message": "the reason"}
    with pytest.raises(TargetError, match="the reason") as failed:
        target.deploy(bundle())
    assert isinstance(failed.value, TargetBusy) == passing
    assert google.links("web") == ["first"]


def test_an_operation_that_lasts_is_not_begun_again(
    google: Compute, target: GoogleCompute, fake: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(googlecloud, "PATIENCE", 0.02)
    google.lasts, wanted = 10**6, bundle()
    for _ in range(2):
        with pytest.raises(TargetBusy, match="has not ended"):
            target.deploy(wanted)
    target.deploy(wanted)
    assert [request.method for request in fake.writes] == ["POST", "PATCH"]


def test_a_proxy_that_would_not_serve_it_is_told(
    google: Compute, fake: Service, target: GoogleCompute
) -> None:
    google.proxy("mapped", certificateMap="//certificatemanager.googleapis.com/a/map")
    for proxy, said in (("mapped", "certificate map"), ("none", "no target HTTPS proxy none")):
        with pytest.raises(TargetError, match=said):
            made(fake, proxy).deploy(bundle())


def test_another_certificate_of_its_name_is_left_alone(
    google: Compute, target: GoogleCompute
) -> None:
    wanted, other = bundle("www", 1), bundle("www", 2)
    target.deploy(other)
    at = f"{GLOBAL}/sslCertificates/{name_of(wanted)}"
    there = google.certificates[f"{GLOBAL}/sslCertificates/{name_of(other)}"]
    google.certificates[at] = {**there, "name": name_of(wanted)}
    with pytest.raises(TargetError, match="cannot be made"):
        target.deploy(wanted)
    assert google.links("web") == ["first", name_of(other)]


def test_what_google_issues_is_told(google: Compute, target: GoogleCompute) -> None:
    target.deploy(bundle())
    state = {"domains": ["shop.example.com"], "status": "ACTIVE"}
    google.certificates[f"{GLOBAL}/sslCertificates/shop"] = {
        "name": "shop",
        "type": "MANAGED",
        "managed": state,
        "selfLink": f"{API}/shop",
        "expireTime": "2026-12-24T02:20:30.000-08:00",
    }
    until = datetime(2026, 12, 24, 10, 20, 30, tzinfo=UTC)
    assert target.managed() == [Managed(f"{API}/shop", ("shop.example.com",), until, "ACTIVE")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("certificate", "Certd-{name}"),
        ("certificate", "a" * 40 + "{name}"),
        ("proxies", ()),
        ("proxies", ("global/web",)),
        ("url", "http://example.com"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: Any) -> None:
    check = GoogleCompute.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)
