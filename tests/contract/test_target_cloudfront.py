"""CloudFront distributions: the contract, and what is their own. The other side is moto."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from certd_deploy import acm, cloudfront, iam
from certd_deploy.cloudfront import CloudFront
from moto.cloudfront.models import cloudfront_backends

from certd.api import ConfigError, TargetBusy, TargetError
from certd.config import TargetSettings
from certd.known import TargetState
from certd.model import Bundle
from certd.store import Store
from certd.testing.chains import Authority, bundle, pem
from certd.testing.targets import Pair, TargetContract
from certd.x509 import facts, new_key
from tests.aws_gaps import ACCOUNT, kept, server_certificate
from tests.aws_services import (
    DISTRIBUTION,
    SECRET,
    Front,
    account,
    boto,
    deployed_with_crashes,
)
from tests.rollouts import step, store_with_www

DOCUMENTED = (cloudfront, iam, acm)

UPDATE = "cloudfront:UpdateDistribution"


@pytest.fixture
def front(front: Front, moto: str) -> Front:
    boto("cloudfront", moto).create_distribution(DistributionConfig=DISTRIBUTION)
    return front


def distribution() -> Any:
    [found] = cloudfront_backends[ACCOUNT]["aws"].distributions.values()
    return found


def made(url: str, **settings: Any) -> CloudFront:
    return CloudFront(distribution=distribution().distribution_id, **account(url), **settings)


@pytest.fixture
def target(url: str) -> CloudFront:
    return made(url)


def viewer() -> Any:
    return vars(distribution().distribution_config)["ViewerCertificate"]


class TestCloudFront(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)
    one_place = True

    @pytest.fixture
    def target(self, url: str, front: Front) -> CloudFront:
        self.front = front
        return made(url)

    def in_place(self, target: CloudFront, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        arn = viewer().acm_certificate_arn
        return kept(arn) if arn else None

    def out_of_order(self, target: CloudFront) -> AbstractContextManager[None]:
        return self.front.refusing("acm:ImportCertificate")

    def writes(self, target: CloudFront) -> int:
        return self.front.writes


def test_only_the_certificate_is_another(target: CloudFront, front: Front, moto: str) -> None:
    other, which = boto("cloudfront", moto), target.distribution
    before = other.get_distribution_config(Id=which)["DistributionConfig"]
    target.deploy(bundle())
    after = other.get_distribution_config(Id=which)["DistributionConfig"]
    now = after.pop("ViewerCertificate")
    before.pop("ViewerCertificate")
    assert after == before
    assert now["ACMCertificateArn"].startswith("arn:aws:acm:us-east-1:")
    assert now["SSLSupportMethod"] == "sni-only"
    assert now["MinimumProtocolVersion"] == "TLSv1.2_2021"
    assert not now.get("CloudFrontDefaultCertificate")


def test_acm_renews_without_a_change_of_the_distribution(target: CloudFront, front: Front) -> None:
    for number in (1, 2):
        one = bundle("www", number)
        target.deploy(one)
        assert target.serving("www") == one.certificate.fingerprint
    assert front.count(UPDATE) == 1


def test_acm_is_that_of_us_east_1(url: str) -> None:
    far = replace(made(url), region="eu-central-1")
    far.deploy(bundle())
    assert ":us-east-1:" in viewer().acm_certificate_arn


def test_how_it_is_served_stays_unless_it_is_said(url: str, moto: str) -> None:
    target = made(url, store="iam")
    target.deploy(bundle())
    there = viewer()
    there.ssl_support_method, there.minimum_protocol_version = "vip", "TLSv1.2_2018"
    target.deploy(bundle("www", 2))
    there = viewer()
    assert (there.ssl_support_method, there.minimum_protocol_version) == ("vip", "TLSv1.2_2018")
    replace(target, minimum_protocol="TLSv1.2_2021").deploy(bundle("www", 2))
    there = viewer()
    assert (there.ssl_support_method, there.minimum_protocol_version) == ("vip", "TLSv1.2_2021")


def test_server_certificates_are_below_their_path_and_old_ones_go(url: str, moto: str) -> None:
    target = made(url, store="iam")
    for number in (1, 2, 3):
        target.deploy(bundle("www", number))
    listed = boto("iam", moto).list_server_certificates()["ServerCertificateMetadataList"]
    assert [each["Path"] for each in listed] == ["/cloudfront/"] * 2
    now = kept(server_certificate(viewer().iam_certificate_id).arn)
    assert now.fingerprint == target.serving("www")


def test_what_somebody_else_changes_meanwhile_stays(
    target: CloudFront, front: Front, moto: str
) -> None:
    other, which = boto("cloudfront", moto), target.distribution

    def overtake() -> None:
        there = other.get_distribution_config(Id=which)
        config = {**there["DistributionConfig"], "Comment": "somebody else's"}
        other.update_distribution(Id=which, IfMatch=there["ETag"], DistributionConfig=config)

    one = bundle()
    front.first(UPDATE, overtake)
    target.deploy(one)
    assert vars(distribution().distribution_config)["Comment"] == "somebody else's"
    assert target.serving("www") == one.certificate.fingerprint
    assert front.count(UPDATE) == 2


def test_it_gives_way_to_those_who_change_it_all_the_time(target: CloudFront, front: Front) -> None:
    front.refuse(UPDATE, 412, "PreconditionFailed", times=cloudfront.TRIES)
    with pytest.raises(TargetBusy, match="all the time"):
        target.deploy(bundle())
    one = bundle("www", 2)
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


def test_until_the_edges_have_it_certd_goes_on_looking(
    target: CloudFront, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes longer than any server: nothing is sent again, put back or believed."""
    settings = TargetSettings("cdn", "cloudfront", target, verify_timeout=0.0)

    def again(store: Store) -> TargetState:
        store.lineages.retry_now("www", datetime.now(UTC), force=False)
        return step(store, settings)["cdn"]

    with store_with_www() as store:
        with monkeypatch.context() as on_its_way:
            there = distribution()
            on_its_way.setattr(there, "advance", lambda: None, raising=False)
            on_its_way.setattr(there, "status", "InProgress")
            for state in (step(store, settings)["cdn"], again(store), again(store)):
                assert state.phase == "applied"
                assert state.failure is not None
                assert "on its way to the edges" in state.failure.what
                assert state.retry_at is not None
                assert state.retry_at - datetime.now(UTC) < timedelta(minutes=2)
        state = again(store)
        assert (state.phase, state.failure) == ("verified", None)
        now = store.lineages.bundle("www", 1).certificate.fingerprint
        assert target.serving("www") == now
    assert front.count(UPDATE) == 1


def test_a_certificate_that_is_not_heard_of_yet_is_waited_for(
    target: CloudFront, front: Front
) -> None:
    one = bundle()
    front.refuse(UPDATE, 400, "InvalidViewerCertificate", "doesn't exist", times=2)
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


def test_a_name_that_the_certificate_does_not_have_is_told(
    target: CloudFront, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certd_deploy.aws.PATIENCE", 0.05)
    front.refuse(UPDATE, 400, "InvalidViewerCertificate", "not cover the alias", times=50)
    with pytest.raises(TargetError, match="not cover the alias") as refused:
        target.deploy(bundle())
    assert not isinstance(refused.value, TargetBusy)


def test_a_distribution_that_is_not_there(target: CloudFront, front: Front) -> None:
    other = replace(target, distribution="E0NOBODY")
    with pytest.raises(TargetError, match="no distribution E0NOBODY"):
        other.ready("www")
    with pytest.raises(TargetError, match="no distribution E0NOBODY"):
        other.deploy(bundle())
    assert front.writes == 0


def test_a_permission_that_is_missing_is_named(target: CloudFront, front: Front) -> None:
    front.refuse(UPDATE, 403, "AccessDenied", "not you")
    with pytest.raises(TargetError, match="AWS refuses UpdateDistribution") as refused:
        target.deploy(bundle())
    assert f'"{UPDATE}"' in refused.value.next
    assert f"distribution/{target.distribution}" in refused.value.next


def test_a_key_that_cloudfront_does_not_take_is_told_before_anything_is_sent(
    target: CloudFront, front: Front
) -> None:
    key, middle = new_key("ec-p384"), Authority.root()
    leaf = middle.leaf(key, "www.example.com")
    large = Bundle("www", 1, pem(leaf), pem(middle.certificate), key, facts(leaf))
    with pytest.raises(TargetError, match="secp384r1"):
        target.deploy(large)
    assert front.calls == []


def test_a_crash_anywhere_is_gone_on_from(
    url: str, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = made(url, store="iam")
    bundles = [bundle("www", number) for number in (1, 2, 3)]
    assert deployed_with_crashes(target, bundles, monkeypatch, cloudfront, iam) == [
        "iam: certificate uploaded",
        "cloudfront: distribution changed",
        "iam: old certificate deleted",
    ]
    assert front.count("iam:UploadServerCertificate") == front.count(UPDATE) == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("distribution", "https://d1.cloudfront.net"),
        ("path", "/"),
        ("path", "/cloudfront"),
        ("minimum_protocol", "TLS1.2"),
        ("store", "s3"),
    ],
)
def test_settings_that_are_wrong(setting: str, value: str) -> None:
    check = CloudFront.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)


def test_in_china_it_is_iam() -> None:
    with pytest.raises(ConfigError, match="China"):
        CloudFront(distribution="E1ABCDEFGHIJKL", region="cn-northwest-1")
