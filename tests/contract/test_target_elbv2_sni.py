"""Load balancers' further certificates, chosen by name (SNI), and keys of another kind."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from certd_deploy import acm, elbv2, iam
from certd_deploy.elbv2 import ELBv2

from certd.model import Bundle
from certd.testing.chains import DAY, HOUR, Authority, bundle, pem
from certd.testing.targets import Pair
from certd.x509 import facts, new_key
from tests.aws_gaps import kept
from tests.aws_services import Front, account, boto
from tests.balancers import ADD, BalancerContract, balance, listener, theirs

DOCUMENTED = (elbv2, iam, acm)


@pytest.fixture
def front(front: Front, moto: str) -> Front:
    balance(moto)
    return front


@pytest.fixture
def target(url: str) -> ELBv2:
    return ELBv2(load_balancer="front", **account(url))


class TestBySNI(BalancerContract):
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


def test_only_by_sni_is_there_room_for_more(target: ELBv2) -> None:
    assert target.place("www") == target.place("mail")
    chosen = replace(target, sni=True)
    assert chosen.place("www") != chosen.place("mail")


def with_rsa(version: int) -> Bundle:
    key, middle = new_key("rsa-2048"), Authority.root()
    now = datetime.now(UTC)
    leaf = middle.leaf(key, "www.example.com", not_before=now - HOUR, not_after=now + DAY)
    return Bundle("www", version, pem(leaf), pem(middle.certificate), key, facts(leaf))


@pytest.mark.parametrize("sni", [False, True])
def test_a_key_of_another_kind_leaves_nothing_of_the_one_before_at_the_listener(
    url: str, front: Front, moto: str, sni: bool
) -> None:
    """ACM does not put it in the place of the one before; clients that prefer RSA would be given
    that until it has expired.
    """
    target = ELBv2(load_balancer="front", sni=sni, **account(url))
    mail = bundle("mail")
    replace(target, sni=True).deploy(mail)
    versions = [with_rsa(1), bundle("www", 2), bundle("www", 3)]
    for one in (*versions, versions[0], versions[2]):
        target.deploy(one)
        assert target.serving("www") == one.certificate.fingerprint
        default, *further = [kept(arn).fingerprint for arn in listener().certificates]
        ours = [one.certificate.fingerprint]
        assert further == [mail.certificate.fingerprint, *(ours if sni else ())]
        assert default == (kept(theirs()).fingerprint if sni else ours[0])
    assert front.count("acm:ImportCertificate") == 4, "nothing twice"


def test_two_of_ours_at_the_listener_are_put_right(url: str, moto: str) -> None:
    """As after a crash between the two."""
    target = ELBv2(load_balancer="front", sni=True, **account(url))
    first, second = with_rsa(1), bundle("www", 2)
    target.deploy(first)
    [_, before] = listener().certificates
    target.deploy(second)
    boto("elbv2", moto).add_listener_certificates(
        ListenerArn=listener().arn, Certificates=[{"CertificateArn": before}]
    )
    assert target.serving("www") == ""
    target.deploy(second)
    assert target.serving("www") == second.certificate.fingerprint
