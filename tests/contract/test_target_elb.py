"""Classic load balancers: the contract, and what is their own. The other side is moto."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from certd_deploy import acm, elb, elbpolicies, iam
from certd_deploy.elb import ELB
from moto.elasticbeanstalk.models import eb_backends
from moto.elb.models import elb_backends

from certd.api import ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, REGION, kept
from tests.aws_services import SECRET, Front, account, boto, deployed_with_crashes

DOCUMENTED = (elb, iam, acm)

SWITCH = "elasticloadbalancing:SetLoadBalancerListenerSSLCertificate"
CREATE = "elasticloadbalancing:CreateLoadBalancerListeners"
UPLOAD = "iam:UploadServerCertificate"
HTTP = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 8080}


@pytest.fixture
def front(front: Front, moto: str) -> Front:
    boto("elb", moto).create_load_balancer(
        LoadBalancerName="front", Listeners=[HTTP], AvailabilityZones=["us-east-1a"]
    )
    return front


@pytest.fixture
def target(url: str) -> ELB:
    return ELB(load_balancer="front", **account(url))


def listeners(moto: str) -> dict[int, dict[str, Any]]:
    """As `aws elb describe-load-balancers` lists them."""
    [found] = boto("elb", moto).describe_load_balancers()["LoadBalancerDescriptions"]
    return {
        each["Listener"]["LoadBalancerPort"]: {**each["Listener"], "policies": each["PolicyNames"]}
        for each in found["ListenerDescriptions"]
    }


class TestELB(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)
    one_place = True

    @pytest.fixture
    def target(self, url: str, front: Front, moto: str) -> ELB:
        self.front, self.moto = front, moto
        return ELB(load_balancer="front", **account(url))

    def in_place(self, target: ELB, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        found = elb_backends[ACCOUNT][REGION].load_balancers["front"].listeners
        there = [each for each in found if int(each.load_balancer_port) == 443]
        return kept(there[0].ssl_certificate_id or "") if there else None

    def writes(self, target: ELB) -> int:
        return self.front.writes

    def out_of_order(self, target: ELB) -> AbstractContextManager[None]:
        return self.front.refusing(SWITCH)


def test_out_of_acm_it_renews_without_a_change_of_the_listener(target: ELB, front: Front) -> None:
    imported = replace(target, store="acm")
    for number in (1, 2, 3):
        one = bundle("www", number)
        imported.deploy(one)
        assert imported.serving("www") == one.certificate.fingerprint
    assert (front.count(CREATE), front.count(SWITCH)) == (1, 0)
    first = bundle("www", 4)
    target.deploy(first)
    assert target.serving("www") == first.certificate.fingerprint


def test_a_listener_is_made_and_the_others_stay(url: str, moto: str) -> None:
    target = ELB(load_balancer="front", instance_port=8080, **account(url))
    before = listeners(moto)[80]
    one = bundle()
    target.deploy(one)
    there = listeners(moto)
    assert there.keys() == {80, 443}
    assert there[80] == before
    assert (there[443]["Protocol"], there[443]["InstancePort"]) == ("HTTPS", 8080)
    assert target.serving("www") == one.certificate.fingerprint


def test_a_listener_that_is_there_keeps_its_other_settings(target: ELB, moto: str) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    replace(target, instance_port=9000, protocol="SSL", instance_protocol="TCP").deploy(second)
    there = listeners(moto)[443]
    assert (there["Protocol"], there["InstancePort"]) == ("HTTPS", 80)
    assert target.serving("www") == second.certificate.fingerprint


def test_a_listener_without_tls_is_not_touched(target: ELB, front: Front, moto: str) -> None:
    other = replace(target, port=80)
    asks: list[Callable[[], object]] = [
        lambda: other.deploy(bundle()),
        lambda: other.ready("www"),
    ]
    for ask in asks:
        with pytest.raises(TargetError, match="does not speak TLS at port 80"):
            ask()
    assert front.writes == 0
    assert listeners(moto)[80]["Protocol"] == "HTTP"


def test_a_load_balancer_that_is_not_there_is_told_before_anything_is_uploaded(
    target: ELB, front: Front
) -> None:
    other = replace(target, load_balancer="back")
    asks: list[Callable[[], object]] = [
        lambda: other.deploy(bundle()),
        lambda: other.ready("www"),
        lambda: other.serving("www"),
    ]
    for ask in asks:
        with pytest.raises(TargetError, match="there is no load balancer back") as missing:
            ask()
        assert not isinstance(missing.value, TargetBusy)
    assert front.writes == 0


def test_the_load_balancer_of_an_environment(url: str, front: Front, moto: str) -> None:
    found: dict[str, list[str]] = {"shop": ["front"], "bare": [], "newer": ["arn:aws:elastic…"]}
    eb_backends[ACCOUNT][REGION].__dict__["balancers"] = found
    one = bundle()
    target = ELB(environment="shop", **account(url))
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint
    assert listeners(moto).keys() == {80, 443}
    with pytest.raises(TargetError, match="has no load balancers"):
        replace(target, environment="bare").ready("www")
    with pytest.raises(TargetError, match='type = "elbv2"'):
        replace(target, environment="newer").ready("www")
    with pytest.raises(TargetError, match="No Environment found"):
        replace(target, environment="gone").ready("www")


@pytest.mark.parametrize("action", [CREATE, SWITCH])
def test_a_certificate_that_elb_has_not_heard_of_is_waited_for(
    target: ELB, front: Front, action: str
) -> None:
    if action == SWITCH:
        target.deploy(bundle("www", 1))
    one = bundle("www", 2)
    front.refuse(action, 400, "CertificateNotFound", "Server Certificate not found", times=3)
    target.deploy(one)
    assert front.count(action) == 4
    assert target.serving("www") == one.certificate.fingerprint


def test_it_is_not_waited_for_without_end(
    target: ELB, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certd_deploy.aws.PATIENCE", 0.05)
    front.refuse(CREATE, 400, "CertificateNotFound", times=50)
    with pytest.raises(TargetBusy, match="CertificateNotFound"):
        target.deploy(bundle())


def test_an_answer_that_is_lost_costs_no_second_upload(target: ELB, front: Front) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    for one, lost in ((first, CREATE), (second, SWITCH)):
        front.lose_answer(lost)
        with pytest.raises(TargetBusy):
            target.deploy(one)
        target.deploy(one)
        assert target.serving("www") == one.certificate.fingerprint
        assert front.count(lost) == 1
    assert front.count(UPLOAD) == 2


def test_the_certificate_that_was_there_goes_when_it_is_not_used(target: ELB, moto: str) -> None:
    for number in (1, 2, 3):
        target.deploy(bundle("www", number))
    names = [
        each["ServerCertificateName"]
        for each in boto("iam", moto).list_server_certificates()["ServerCertificateMetadataList"]
    ]
    assert len(names) == 2, "the one in place and the one before"
    assert listeners(moto)[443]["SSLCertificateId"].rpartition("/")[2] in names


def test_one_that_may_not_be_deleted_puts_nothing_back(target: ELB, front: Front) -> None:
    for number in (1, 2):
        target.deploy(bundle("www", number))
    front.refuse("iam:DeleteServerCertificate", 403, "AccessDenied", "not you")
    third = bundle("www", 3)
    with pytest.raises(TargetBusy, match="new version is in place, but old"):
        target.deploy(third)
    assert target.serving("www") == third.certificate.fingerprint


@pytest.mark.parametrize("name", ["mozilla-modern", "mozilla-intermediate"])
def test_a_policy_of_the_guideline_is_made_and_set(url: str, moto: str, name: str) -> None:
    target = ELB(load_balancer="front", policy=name, **account(url))
    target.deploy(bundle())
    [made] = listeners(moto)[443]["policies"]
    assert made.startswith(f"{name}-")
    [policy] = boto("elb", moto).describe_load_balancer_policies(
        LoadBalancerName="front", PolicyNames=[made]
    )["PolicyDescriptions"]
    assert policy["PolicyTypeName"] == "SSLNegotiationPolicyType"
    on = {
        each["AttributeName"]
        for each in policy["PolicyAttributeDescriptions"]
        if each["AttributeValue"] == "true"
    }
    ciphers = on - {"Protocol-TLSv1.2", "Server-Defined-Cipher-Order"}
    assert "Protocol-TLSv1.2" in on
    assert {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"} <= ciphers
    assert ciphers <= set(elbpolicies.GUIDELINES[name].ciphers)
    assert not [one for one in ciphers if "CHACHA20" in one or not one.startswith(("ECDHE", "DHE"))]


def test_other_policies_stay_and_an_older_one_is_replaced(
    url: str, front: Front, moto: str
) -> None:
    target = ELB(load_balancer="front", policy="mozilla-intermediate", **account(url))
    target.deploy(bundle())
    other = boto("elb", moto)
    other.create_lb_cookie_stickiness_policy(
        LoadBalancerName="front", PolicyName="sticky", CookieExpirationPeriod=60
    )
    other.set_load_balancer_policies_of_listener(
        LoadBalancerName="front",
        LoadBalancerPort=443,
        PolicyNames=["sticky", "ELBSecurityPolicy-2016-08"],
    )
    one = bundle("www", 2)
    target.deploy(one)
    name, _ = elbpolicies.policy("mozilla-intermediate")
    assert listeners(moto)[443]["policies"] == ["sticky", name]
    modern = replace(target, policy="mozilla-modern")
    modern.deploy(one)
    assert listeners(moto)[443]["policies"] == ["sticky", elbpolicies.policy("mozilla-modern")[0]]
    written = front.writes
    modern.deploy(one)
    assert front.writes == written


def test_a_guideline_that_changes_makes_another_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = elbpolicies.policy("mozilla-modern")
    changed = replace(elbpolicies.GUIDELINES["mozilla-modern"], server_order=False)
    monkeypatch.setitem(elbpolicies.GUIDELINES, "mozilla-modern", changed)
    assert elbpolicies.policy("mozilla-modern")[0] != name


def test_a_policy_of_aws_is_referred_to(url: str, moto: str) -> None:
    wanted = "ELBSecurityPolicy-TLS-1-2-2017-01"
    ELB(load_balancer="front", policy=wanted, **account(url)).deploy(bundle())
    assert listeners(moto)[443]["policies"] == [f"certd-{wanted}"]
    [policy] = boto("elb", moto).describe_load_balancer_policies(
        LoadBalancerName="front", PolicyNames=[f"certd-{wanted}"]
    )["PolicyDescriptions"]
    [attribute] = policy["PolicyAttributeDescriptions"]
    assert attribute == {"AttributeName": "Reference-Security-Policy", "AttributeValue": wanted}


def test_without_a_policy_those_of_the_listener_stay(target: ELB, front: Front) -> None:
    target.deploy(bundle())
    assert not [call for call in front.calls if "Polic" in call]


def test_what_is_no_pair_is_never_sent(target: ELB, front: Front, moto: str) -> None:
    one = bundle()
    target.deploy(one)
    written = front.writes
    with pytest.raises(TargetError, match="nothing is sent to AWS"):
        target.deploy(replace(bundle("www", 2), key_pem=new_key("ec-p256")))
    assert front.writes == written
    assert target.serving("www") == one.certificate.fingerprint


def test_what_somebody_else_puts_there_is_seen(target: ELB, moto: str) -> None:
    target.deploy(bundle())
    other = bundle("mail")
    arn = boto("acm", moto).import_certificate(
        Certificate=other.leaf_pem, PrivateKey=other.key_pem.reveal()
    )["CertificateArn"]
    boto("elb", moto).set_load_balancer_listener_ssl_certificate(
        LoadBalancerName="front", LoadBalancerPort=443, SSLCertificateId=arn
    )
    assert target.serving("www") == other.certificate.fingerprint


def test_a_crash_anywhere_is_gone_on_from(
    url: str, front: Front, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ELB(load_balancer="front", policy="mozilla-modern", **account(url))
    bundles = [bundle("www", number) for number in (1, 2, 3)]
    assert deployed_with_crashes(target, bundles, monkeypatch, elb, iam) == [
        "iam: certificate uploaded",
        "elb: listener switched",
        "elb: policy made",
        "elb: policy set",
        "iam: old certificate deleted",
    ]
    assert front.count(UPLOAD) == len(bundles)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({}, "none of the two", id="no load balancer"),
        pytest.param({"load_balancer": "a", "environment": "b"}, "both of the two", id="two"),
        pytest.param({"load_balancer": "a", "protocol": "SSL"}, "TCP or SSL", id="not behind it"),
        pytest.param({"load_balancer": "a", "external_id": "x"}, "no use", id="of the account"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ELB(**settings)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("store", "s3"), ("port", 0), ("port", 65536), ("protocol", "HTTP"), ("policy", "modern")],
)
def test_settings_that_are_wrong(setting: str, value: Any) -> None:
    check = ELB.__dataclass_fields__[setting].metadata["check"]
    with pytest.raises(ConfigError):
        check(value)


def test_two_accounts_may_each_have_a_load_balancer_of_that_name(target: ELB) -> None:
    assert target.place("www") == target.place("mail")
    assert target.place("www") != replace(target, access_key_id="AKIAOTHER").place("www")
    assert target.place("www") != replace(target, region="eu-west-1").place("www")
