"""Application and network load balancers: the contract, and what is their own; against moto."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from certd_deploy import acm, elbv2, iam
from certd_deploy.elbv2 import ELBv2
from moto.acm.models import acm_backends
from moto.elasticbeanstalk.models import eb_backends
from moto.elbv2.models import elbv2_backends

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, REGION, kept
from tests.aws_services import SECRET, Front, account, allowed, boto, empty, running
from tests.http_server import serving

MODIFY = "elasticloadbalancing:ModifyListener"
ADD = "elasticloadbalancing:AddListenerCertificates"
POLICY = "ELBSecurityPolicy-TLS-1-2-2017-01"
NOTHING: Any = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def front(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Front:
    """A load balancer as somebody made it: HTTP, and HTTPS with a certificate of theirs."""
    empty(monkeypatch, tmp_path)
    other = boto("elbv2", moto)
    subnets = elbv2_backends[ACCOUNT][REGION].ec2_backend.get_default_subnets().values()
    two = [one.id for one in subnets][:2]
    [made] = other.create_load_balancer(Name="front", Subnets=two)["LoadBalancers"]
    where = {"LoadBalancerArn": made["LoadBalancerArn"], "DefaultActions": NOTHING}
    first = bundle("first")
    arn = boto("acm", moto).import_certificate(
        Certificate=first.leaf_pem, PrivateKey=first.key_pem.reveal()
    )["CertificateArn"]
    theirs = [{"CertificateArn": arn}]
    other.create_listener(**where, Protocol="HTTP", Port=80)
    other.create_listener(**where, Protocol="HTTPS", Port=443, Certificates=theirs)
    return Front(moto)


@pytest.fixture
def url(front: Front) -> Iterator[str]:
    with serving(front) as url:
        yield url
    assert set(front.calls) <= allowed(elbv2, iam, acm), "the documented policy is enough"


@pytest.fixture
def target(url: str) -> ELBv2:
    return ELBv2(load_balancer="front", **account(url))


def listener(port: int = 443) -> Any:
    [one] = elbv2_backends[ACCOUNT][REGION].load_balancers.values()
    [found] = [each for each in one.listeners.values() if int(each.port) == port]
    return found


def theirs() -> str:
    """The certificate that was there at first."""
    certificates = acm_backends[ACCOUNT][REGION]._certificates
    [arn] = [arn for arn, one in certificates.items() if "certd:name" not in dict(one.tags)]
    return arn


class Contract(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)
    one_place = True
    settings: ClassVar[dict[str, Any]] = {}
    failing: ClassVar[str] = MODIFY

    @pytest.fixture
    def target(self, url: str, front: Front) -> ELBv2:
        self.front = front
        return ELBv2(load_balancer="front", **account(url), **self.settings)

    def in_place(self, target: ELBv2, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        arn = listener().certificate
        return None if arn == theirs() else kept(arn)

    def out_of_order(self, target: ELBv2) -> AbstractContextManager[None]:
        return self.front.refusing(self.failing)

    def writes(self, target: ELBv2) -> int:
        return self.front.writes

    def test_before_the_first_deployment_nothing_is_in_place(self, target: Any) -> None:
        """It is somebody else's, which is told."""
        assert self.in_place(target, "www") is None
        assert target.serving("www") not in (None, "")


class TestDefaultFromACM(Contract):
    failing = "acm:ImportCertificate"


class TestBySNI(Contract):
    settings: ClassVar[dict[str, Any]] = {"store": "iam", "sni": True}
    one_place = False
    failing = ADD

    def in_place(self, target: ELBv2, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        ours = [arn for arn in listener().certificates[1:] if f"/{name}-" in arn]
        return kept(ours[0]) if ours else None

    def test_before_the_first_deployment_nothing_is_in_place(self, target: Any) -> None:
        assert self.in_place(target, "www") is None
        assert target.serving("www") == ""


def test_the_default_certificate_is_changed_and_nothing_else(target: ELBv2, moto: str) -> None:
    other = boto("elbv2", moto)
    arn = listener().arn
    [before] = other.describe_listeners(ListenerArns=[arn])["Listeners"]
    one = bundle()
    target.deploy(one)
    [after] = other.describe_listeners(ListenerArns=[arn])["Listeners"]
    [now] = after.pop("Certificates")
    before.pop("Certificates")
    assert after == before
    assert kept(now["CertificateArn"]).fingerprint == one.certificate.fingerprint
    assert listener(80).certificates == []


def test_acm_renews_without_a_change_of_the_listener(target: ELBv2, front: Front) -> None:
    for number in (1, 2, 3):
        one = bundle("www", number)
        target.deploy(one)
        assert target.serving("www") == one.certificate.fingerprint
    assert front.count(MODIFY) == 1


@pytest.mark.parametrize("store", ["acm", "iam"])
def test_further_certificates_of_others_stay(url: str, moto: str, store: str) -> None:
    other, foreign = boto("elbv2", moto), bundle("mail")
    elsewhere = boto("iam", moto).upload_server_certificate(
        ServerCertificateName="www-2019",
        CertificateBody=foreign.leaf_pem,
        PrivateKey=foreign.key_pem.reveal(),
    )["ServerCertificateMetadata"]["Arn"]
    other.add_listener_certificates(
        ListenerArn=listener().arn, Certificates=[{"CertificateArn": elsewhere}]
    )
    target = ELBv2(load_balancer="front", sni=True, store=store, **account(url))
    versions = [bundle("www", number) for number in (1, 2, 3)]
    for one in versions:
        target.deploy(one)
        first, second, ours = listener().certificates
        assert (first, second) == (theirs(), elsewhere)
        assert kept(ours).fingerprint == one.certificate.fingerprint == target.serving("www")
    target.deploy(versions[1])
    assert target.serving("www") == versions[1].certificate.fingerprint


def test_out_of_iam_the_default_is_switched_and_switched_back(target: ELBv2, front: Front) -> None:
    uploaded = replace(target, store="iam")
    first, second = bundle("www", 1), bundle("www", 2)
    for one in (first, second, first, second):
        uploaded.deploy(one)
        assert uploaded.serving("www") == one.certificate.fingerprint
    assert front.count("iam:UploadServerCertificate") == 2
    assert front.count(MODIFY) == 4


def test_a_policy_is_set_by_name(target: ELBv2, front: Front) -> None:
    one = bundle()
    secure = replace(target, policy=POLICY)
    secure.deploy(one)
    assert listener().ssl_policy == POLICY
    assert front.count(MODIFY) == 1, "certificate and policy at once"
    secure.deploy(one)
    assert front.count(MODIFY) == 1
    target.deploy(bundle("www", 2))
    assert listener().ssl_policy == POLICY
    newer = replace(target, sni=True, policy="ELBSecurityPolicy-FS-1-2-Res-2020-10")
    newer.deploy(one)
    assert listener().ssl_policy == "ELBSecurityPolicy-FS-1-2-Res-2020-10"


@pytest.mark.parametrize("sni", [False, True])
def test_a_certificate_that_is_not_heard_of_yet_is_waited_for(
    target: ELBv2, front: Front, sni: bool
) -> None:
    one = bundle()
    front.refuse(ADD if sni else MODIFY, 400, "CertificateNotFound", times=2)
    chosen = replace(target, sni=sni, store="iam")
    chosen.deploy(one)
    assert chosen.serving("www") == one.certificate.fingerprint


@pytest.mark.parametrize(
    ("port", "words"),
    [(80, "does not speak TLS at port 80"), (8443, "no listener at port 8443")],
)
def test_a_listener_that_cannot_be_used(target: ELBv2, front: Front, port: int, words: str) -> None:
    other = replace(target, port=port)
    asks: list[Callable[[], object]] = [
        lambda: other.deploy(bundle()),
        lambda: other.ready("www"),
        lambda: other.serving("www"),
    ]
    for ask in asks:
        with pytest.raises(TargetError, match=words):
            ask()
    assert front.writes == 0


def test_a_load_balancer_that_is_not_there(target: ELBv2, front: Front) -> None:
    with pytest.raises(TargetError, match='type = "elb"'):
        replace(target, load_balancer="back").deploy(bundle())
    assert front.writes == 0


def test_by_arn_and_by_environment(target: ELBv2) -> None:
    [balancer] = elbv2_backends[ACCOUNT][REGION].load_balancers.values()
    found = {"shop": [balancer.arn]}
    eb_backends[ACCOUNT][REGION].__dict__["balancers"] = found
    one = bundle()
    replace(target, load_balancer=balancer.arn).deploy(one)
    shop = replace(target, load_balancer=None, environment="shop")
    assert shop.serving("www") == one.certificate.fingerprint


def test_an_answer_that_is_lost_costs_no_second_upload(target: ELBv2, front: Front) -> None:
    chosen = replace(target, store="iam", sni=True)
    for number in (1, 2):
        one = bundle("www", number)
        front.lose_answer(ADD)
        with pytest.raises(TargetBusy):
            chosen.deploy(one)
        chosen.deploy(one)
        assert chosen.serving("www") == one.certificate.fingerprint
    assert front.count("iam:UploadServerCertificate") == front.count(ADD) == 2


class Crash(BaseException):
    pass


def test_a_crash_anywhere_is_gone_on_from(
    target: ELBv2, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def crash(name: str) -> None:
        if name not in seen:
            seen.append(name)
            raise Crash

    for module in (elbv2, iam):
        monkeypatch.setattr(module, "failpoint", crash)
    chosen = replace(target, store="iam", sni=True, policy=POLICY)
    for number in (1, 2, 3):
        one = bundle("www", number)
        while True:
            try:
                chosen.deploy(one)
                break
            except Crash:
                continue
        assert chosen.serving("www") == one.certificate.fingerprint
    assert seen == [
        "iam: certificate uploaded",
        "elbv2: listener changed",
        "elbv2: certificate added",
        "elbv2: certificate removed",
        "iam: old certificate deleted",
    ]
    assert front.count("iam:UploadServerCertificate") == 3


def test_what_is_no_pair_is_never_sent(target: ELBv2, front: Front) -> None:
    with pytest.raises(TargetError, match="nothing is sent to AWS"):
        target.deploy(replace(bundle(), key_pem=new_key("ec-p256")))
    assert front.calls == []


def test_only_by_sni_is_there_room_for_more(target: ELBv2) -> None:
    assert target.place("www") == target.place("mail")
    chosen = replace(target, sni=True)
    assert chosen.place("www") != chosen.place("mail")


@pytest.mark.parametrize("policy", ["mozilla-modern", "ELBSecurityPolicy-", "x"])
def test_a_policy_that_is_none(policy: str) -> None:
    with pytest.raises(ConfigError, match="no security policy"):
        elbv2.check_policy(policy)
