"""AWS Certificate Manager: the contract, and what is its own. The other side is moto."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from certd_deploy import acm
from certd_deploy.acm import ACM
from moto.acm.models import acm_backends

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, REGION
from tests.aws_services import SECRET, Front, account, boto, deployed_with_crashes

DOCUMENTED = (acm,)


@pytest.fixture
def target(url: str) -> ACM:
    return ACM(**account(url))


def stored() -> dict[str, Any]:
    return dict(acm_backends[ACCOUNT][REGION]._certificates)


class TestACM(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)

    @pytest.fixture
    def target(self, url: str, front: Front) -> ACM:
        self.front = front
        return ACM(**account(url))

    def in_place(self, target: ACM, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        ours = [each for each in stored().values() if dict(each.tags).get("certd:name") == name]
        if not ours:
            return None
        [one] = ours
        return Pair((one.cert + (one.chain or b"")).decode(), one.key.decode())

    def out_of_order(self, target: ACM) -> AbstractContextManager[None]:
        return self.front.refusing("acm:ImportCertificate")

    def writes(self, target: ACM) -> int:
        return self.front.writes


def test_each_version_goes_to_the_same_arn(target: ACM, moto: str) -> None:
    versions = [bundle("www", number) for number in (1, 2, 3)]
    arns: set[str] = set()
    for one in versions:
        target.deploy(one)
        arns |= stored().keys()
    [arn] = arns
    other = boto("acm", moto)
    [listed] = other.list_certificates(Includes={"keyTypes": ["EC_prime256v1"]})[
        "CertificateSummaryList"
    ]
    assert listed["CertificateArn"] == arn
    there = other.get_certificate(CertificateArn=arn)
    assert there["Certificate"].strip() == versions[-1].leaf_pem.strip()
    assert there["CertificateChain"].strip() == versions[-1].chain_pem.strip()


def test_an_arn_of_somebody_elses_making_is_imported_to(url: str, moto: str) -> None:
    first = bundle("before")
    arn = boto("acm", moto).import_certificate(
        Certificate=first.leaf_pem, PrivateKey=first.key_pem.reveal()
    )["CertificateArn"]
    target, one = ACM(arn=arn, **account(url)), bundle()
    target.deploy(one)
    assert stored().keys() == {arn}
    assert target.serving("www") == one.certificate.fingerprint
    assert target.place("www") == target.place("mail") == arn


def test_an_arn_that_is_not_there_is_told(url: str) -> None:
    arn = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/12345678-1234-1234-1234-123456789012"
    target = ACM(arn=arn, **account(url))
    assert target.serving("www") == ""
    with pytest.raises(TargetError, match="nothing at arn:aws:acm"):
        target.deploy(bundle())


def test_only_its_own_are_written(target: ACM, moto: str) -> None:
    other, one = boto("acm", moto), bundle("mail")
    for tags in ([], [{"Key": "certd:name", "Value": "mail"}], [{"Key": "Name", "Value": "www"}]):
        more = {"Tags": tags} if tags else {}
        other.import_certificate(Certificate=one.leaf_pem, PrivateKey=one.key_pem.reveal(), **more)
    before = {arn: each.cert for arn, each in stored().items()}
    target.deploy(bundle())
    assert {arn: stored()[arn].cert for arn in before} == before
    assert len(stored()) == 4


def test_a_region_has_its_own(target: ACM, url: str) -> None:
    one = bundle()
    target.deploy(one)
    away = ACM(**{**account(url), "region": "eu-central-1"})
    assert away.serving("www") == ""
    away.deploy(one)
    assert len(stored()) == 1
    assert len(acm_backends[ACCOUNT]["eu-central-1"]._certificates) == 1
    assert target.place("www") != away.place("www")


def test_an_import_whose_answer_is_lost_is_not_repeated(target: ACM, front: Front) -> None:
    for number in (1, 2):
        front.lose_answer("acm:ImportCertificate")
        with pytest.raises(TargetBusy):
            target.deploy(bundle("www", number))
    assert len(stored()) == 1
    one = bundle("www", 3)
    front.lose_answer("acm:ImportCertificate")
    with pytest.raises(TargetBusy):
        target.deploy(one)
    target.deploy(one)
    assert front.count("acm:ImportCertificate") == 3
    assert target.serving("www") == one.certificate.fingerprint


@pytest.mark.parametrize(
    ("code", "least"),
    [
        pytest.param("LimitExceededException", acm.DAY, id="the imports of a year"),
        pytest.param("ThrottlingException", acm.CALM, id="too many at once"),
    ],
)
def test_quotas_are_waited_for(target: ACM, front: Front, code: str, least: float) -> None:
    target.deploy(bundle())
    front.refuse("acm:ImportCertificate", 400, code, "you have reached your limit of 5000")
    with pytest.raises(TargetBusy, match="your limit of 5000") as busy:
        target.deploy(bundle("www", 2))
    assert busy.value.retry_after == least


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        pytest.param(500, "InternalFailure", TargetBusy, "InternalFailure", id="500"),
        pytest.param(400, "RequestInProgressException", TargetBusy, "Request", id="not yet"),
        pytest.param(400, "AccessDeniedException", TargetError, "acm:ImportCertificate", id="no"),
        pytest.param(400, "ValidationException", TargetError, "kind of key", id="another key"),
    ],
)
def test_what_is_refused(
    target: ACM, front: Front, status: int, code: str, kind: type[TargetError], words: str
) -> None:
    older = bundle()
    target.deploy(older)
    front.refuse("acm:ImportCertificate", status, code, "so it is")
    with pytest.raises(TargetError, match=words) as refused:
        target.deploy(bundle("www", 2))
    assert type(refused.value) is kind
    assert target.serving("www") == older.certificate.fingerprint


def test_what_is_no_pair_is_never_sent(target: ACM, front: Front) -> None:
    with pytest.raises(TargetError, match="nothing is sent to AWS"):
        target.deploy(replace(bundle(), key_pem=new_key("ec-p256")))
    assert front.calls == []


def test_a_crash_after_the_import_is_gone_on_from(
    target: ACM, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(deployed_with_crashes(target, [bundle()], monkeypatch, acm)) == 1
    assert front.count("acm:ImportCertificate") == len(stored()) == 1


def test_what_acm_issued_itself_is_shown(target: ACM, moto: str) -> None:
    assert list(target.managed()) == []
    target.deploy(bundle())
    arn = boto("acm", moto).request_certificate(
        DomainName="shop.example.com",
        SubjectAlternativeNames=["www.shop.example.com"],
        ValidationMethod="DNS",
    )["CertificateArn"]
    [one] = target.managed()
    assert (one.id, one.names[0]) == (arn, "shop.example.com")
    assert one.status in ("PENDING_VALIDATION", "ISSUED")
    assert one.not_after is None or one.not_after.tzinfo is not None


@pytest.mark.parametrize("arn", ["", "arn:aws:iam::123456789012:server-certificate/www", "x"])
def test_what_is_no_arn(arn: str) -> None:
    with pytest.raises(ConfigError, match="no ARN"):
        acm.check_arn(arn)


def test_an_arn_of_another_region_is_refused() -> None:
    arn = "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
    with pytest.raises(ConfigError, match="another region") as refused:
        ACM(arn=arn)
    assert refused.value.next == 'write region = "eu-west-1"'
