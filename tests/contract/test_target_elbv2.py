"""Application and network load balancers: the contract, and what is their own; against moto."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from certd_deploy import acm, elbv2, iam
from certd_deploy.elbv2 import ELBv2
from moto.elasticbeanstalk.models import eb_backends
from moto.elbv2.models import elbv2_backends

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, REGION, kept
from tests.aws_services import Front, account, boto, deployed_with_crashes
from tests.balancers import ADD, MODIFY, BalancerContract, balance, listener

DOCUMENTED = (elbv2, iam, acm)

POLICY = "ELBSecurityPolicy-TLS-1-2-2017-01"


@pytest.fixture
def front(front: Front, moto: str) -> Front:
    balance(moto)
    return front


@pytest.fixture
def target(url: str) -> ELBv2:
    return ELBv2(load_balancer="front", **account(url))


class TestDefaultFromACM(BalancerContract):
    failing = "acm:ImportCertificate"


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


def test_a_crash_anywhere_is_gone_on_from(
    target: ELBv2, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = replace(target, store="iam", sni=True, policy=POLICY)
    bundles = [bundle("www", number) for number in (1, 2, 3)]
    assert deployed_with_crashes(chosen, bundles, monkeypatch, elbv2, iam) == [
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


@pytest.mark.parametrize("policy", ["mozilla-modern", "ELBSecurityPolicy-", "x"])
def test_a_policy_that_is_none(policy: str) -> None:
    with pytest.raises(ConfigError, match="no security policy"):
        elbv2.check_policy(policy)
