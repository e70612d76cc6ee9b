"""Certificate Manager against a server that behaves as documented, in its discovery's forms."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, ClassVar

import pytest
from certd_deploy import google_certificate_manager, googlecloud
from certd_deploy.google_certificate_manager import GoogleCertificateManager

from certd.api import ConfigError, Managed, TargetBusy, TargetError, fingerprint
from certd.testing.chains import bundle
from certd.testing.targets import Pair
from tests.cloud_contract import CloudTargetContract
from tests.fake_google_account import PROJECT
from tests.fake_google_certificates import Certificates, forms
from tests.google_services import ROBOT, Service
from tests.http_server import Request, Response

WHERE = f"projects/{PROJECT}/locations/global/certificates"
# What GoogleCertificateManager.credential says, and nothing else.
LEAST = (
    *(f"certificatemanager.certs.{verb}" for verb in ("get", "create", "update", "list")),
    *(f"certificatemanager.operations.{verb}" for verb in ("get", "list")),
)


@pytest.fixture
def google() -> Certificates:
    return Certificates(forms())


@pytest.fixture
def fake(google: Certificates) -> Iterator[Service]:
    with Service(google, *LEAST).open() as service:
        yield service


def made(fake: Service, **settings: Any) -> GoogleCertificateManager:
    return GoogleCertificateManager(fake.account, url=fake.url, **settings)


@pytest.fixture
def target(fake: Service) -> GoogleCertificateManager:
    return made(fake)


class TestCertificateManager(CloudTargetContract):
    module: ClassVar[ModuleType] = google_certificate_manager
    refused: ClassVar[str] = "certificatemanager.certs.create"
    secrets: ClassVar[tuple[str, ...]] = ("token-1",)

    @pytest.fixture(autouse=True)
    def _google(self, google: Certificates) -> None:
        self.google = google

    def in_place(self, target: Any, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        at = f"{WHERE}/certd-{name}"
        found = self.google.there.get(at)
        return Pair(found["pemCertificate"], self.google.keys[at]) if found else None

    def forbid(self) -> None:
        self.google.may[ROBOT] = frozenset(one for one in LEAST if one.endswith((".get", ".list")))


def test_googles_own_client_reads_what_was_written(
    fake: Service, target: GoogleCertificateManager
) -> None:
    wanted = bundle()
    target.deploy(wanted)
    client = fake.official("certificatemanager", "certificatemanager.certs.get")
    with client:
        certificates = client.projects().locations().certificates()
        found = certificates.get(name=f"{WHERE}/certd-www").execute()
    assert found["pemCertificate"] == wanted.fullchain_pem
    assert fingerprint(found["pemCertificate"]) == target.serving("www")
    assert found["labels"] == {"managed-by": "certd"}
    assert "pemPrivateKey" not in found["selfManaged"]


def test_it_is_created_once_and_patched_from_then_on(
    fake: Service, google: Certificates, target: GoogleCertificateManager
) -> None:
    target.deploy(bundle("www", 1))
    google.there[f"{WHERE}/certd-www"] |= {
        "usedBy": [{"name": "//certificatemanager.googleapis.com/a/map"}],
        "labels": {"team": "web"},
    }
    target.deploy(bundle("www", 2))
    assert [request.method for request in fake.writes] == ["POST", "PATCH"]
    there = google.there[f"{WHERE}/certd-www"]
    assert there["usedBy"]
    assert there["labels"] == {"team": "web", "managed-by": "certd"}


def test_what_is_told_of_a_self_managed_one_may_be_nothing(
    google: Certificates, target: GoogleCertificateManager
) -> None:
    """All of it is for input only."""
    target.deploy(bundle("www", 1))
    google.there[f"{WHERE}/certd-www"].pop("selfManaged")
    wanted = bundle("www", 2)
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_place_scope_and_labels_are_as_written(fake: Service, google: Certificates) -> None:
    one = made(
        fake,
        certificate="shop-{name}",
        location="europe-west1",
        scope="ALL_REGIONS",
        labels={"team": "web"},
        project=PROJECT,
    )
    one.deploy(bundle("www"))
    [(name, there)] = google.there.items()
    assert name == f"projects/{PROJECT}/locations/europe-west1/certificates/shop-www"
    assert there["scope"] == "ALL_REGIONS"
    assert there["labels"] == {"managed-by": "certd", "team": "web"}
    assert one.place("www") == f"{PROJECT}: europe-west1/shop-www"


@pytest.mark.parametrize("name", ["WWW", "a.b", "x" * 64, "__"])
def test_any_name_becomes_one_that_google_takes(
    google: Certificates, target: GoogleCertificateManager, name: str
) -> None:
    plain = "www" if name == "WWW" else "a-b" if name == "a.b" else "y"
    names = ("a.example.com",)
    first, second = bundle(name, 1, *names), bundle(plain, 1, *names)
    target.deploy(first)
    target.deploy(second)
    assert target.serving(name) == first.certificate.fingerprint
    assert target.serving(plain) == second.certificate.fingerprint
    assert target.place(name) != target.place(plain)


def test_an_operation_that_lasts_is_not_begun_again(
    fake: Service,
    google: Certificates,
    target: GoogleCertificateManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(googlecloud, "PATIENCE", 0.02)
    google.lasts = 10**6
    for number in (1, 2):
        wanted = bundle("www", number)
        for _ in range(2):
            with pytest.raises(TargetBusy, match="has not ended"):
                target.deploy(wanted)
        google.end()
        target.deploy(wanted)
        assert target.serving("www") == wanted.certificate.fingerprint
    assert [request.method for request in fake.writes] == ["POST", "PATCH"]


@pytest.mark.parametrize(
    ("code", "passing"), [(8, True), (14, True), (10, True), (3, False), (7, False)]
)
def test_an_operation_that_fails_says_why(
    google: Certificates, target: GoogleCertificateManager, code: int, passing: bool
) -> None:
    older, newer = bundle("www", 1), bundle("www", 2)
    target.deploy(older)
    google.fails = {"code": code, "message": "the reason"}
    with pytest.raises(TargetError, match="the reason") as failed:
        target.deploy(newer)
    assert isinstance(failed.value, TargetBusy) == passing
    assert target.serving("www") == older.certificate.fingerprint
    target.deploy(newer)
    assert target.serving("www") == newer.certificate.fingerprint


def test_a_quota_that_is_used_up_is_no_reason_to_go_back(
    google: Certificates, target: GoogleCertificateManager
) -> None:
    google.most = 0
    with pytest.raises(TargetBusy, match="Quota"):
        target.deploy(bundle())


def test_somebody_elses_change_is_waited_for(
    fake: Service, google: Certificates, target: GoogleCertificateManager
) -> None:
    """Between the look at operations and the change."""
    target.deploy(bundle("www", 1))
    wanted = bundle("www", 2)

    def overtake(request: Request) -> Response:
        if request.method == "PATCH":
            fake.before = None
            google.lasts = 10**6
            google(request)
        return google(request)

    fake.before = overtake
    with pytest.raises(TargetBusy, match="just being changed"):
        target.deploy(wanted)
    google.end()
    target.deploy(wanted)
    assert target.serving("www") == wanted.certificate.fingerprint


def test_what_google_issues_is_left_alone_and_told(
    google: Certificates, target: GoogleCertificateManager
) -> None:
    google.managed("certd-www", "PROVISIONING", "www.example.com")
    google.managed(
        "shop",
        "ACTIVE",
        "shop.example.com",
        expireTime="2026-12-24T10:20:30.123456789Z",
        sanDnsnames=["shop.example.com", "www.shop.example.com"],
    )
    target.deploy(bundle("mail"))
    with pytest.raises(TargetError, match="not a certificate of certd's") as refused:
        target.deploy(bundle("www"))
    assert "another certificate" in refused.value.next
    assert target.serving("www") == ""
    assert {each.id.rpartition("/")[2]: each for each in target.managed()} == {
        "certd-www": Managed(f"{WHERE}/certd-www", ("www.example.com",), None, "PROVISIONING"),
        "shop": Managed(
            f"{WHERE}/shop",
            ("shop.example.com", "www.shop.example.com"),
            datetime(2026, 12, 24, 10, 20, 30, 123456, UTC),
            "ACTIVE",
        ),
    }


def test_an_api_that_is_not_enabled_is_told(
    fake: Service, target: GoogleCertificateManager
) -> None:
    error = {"message": "not used", "details": [{"reason": "SERVICE_DISABLED"}]}
    fake.fault(Response(403, {"error": error}))
    with pytest.raises(TargetError) as refused:
        target.deploy(bundle())
    assert "gcloud services enable" in refused.value.next


def test_an_access_token_that_is_refused_is_fetched_again(
    google: Certificates, target: GoogleCertificateManager
) -> None:
    target.deploy(bundle())
    google.tokens.clear()
    with pytest.raises(TargetBusy, match="another access token"):
        target.serving("www")
    assert target.serving("www")


def test_without_googles_library(
    target: GoogleCertificateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(TargetError) as missing:
        target.deploy(bundle())
    assert missing.value.next == "pip install 'certd[google]'"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("certificate", "Certd-{name}"),
        ("certificate", "-{name}"),
        ("certificate", "a" * 60 + "{name}"),
        ("certificate", "certd-{nam}"),
        ("scope", "default"),
        ("labels", {"Team": "web"}),
        ("labels", {"team": "Web"}),
        ("url", "http://example.com"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: Any) -> None:
    check = GoogleCertificateManager.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)
