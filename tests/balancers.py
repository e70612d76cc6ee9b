"""A load balancer as somebody made it, at moto; and the contract of targets that change it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest
from certd_deploy.elbv2 import ELBv2
from moto.acm.models import acm_backends
from moto.elbv2.models import elbv2_backends

from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from tests.aws_gaps import ACCOUNT, REGION, kept
from tests.aws_services import SECRET, Front, account, boto

MODIFY = "elasticloadbalancing:ModifyListener"
ADD = "elasticloadbalancing:AddListenerCertificates"
_NOTHING: Any = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]


def balance(moto: str) -> None:
    """By HTTP, and by HTTPS with a certificate of somebody's."""
    other = boto("elbv2", moto)
    subnets = elbv2_backends[ACCOUNT][REGION].ec2_backend.get_default_subnets().values()
    two = [one.id for one in subnets][:2]
    [made] = other.create_load_balancer(Name="front", Subnets=two)["LoadBalancers"]
    where = {"LoadBalancerArn": made["LoadBalancerArn"], "DefaultActions": _NOTHING}
    first = bundle("first")
    arn = boto("acm", moto).import_certificate(
        Certificate=first.leaf_pem, PrivateKey=first.key_pem.reveal()
    )["CertificateArn"]
    theirs = [{"CertificateArn": arn}]
    other.create_listener(**where, Protocol="HTTP", Port=80)
    other.create_listener(**where, Protocol="HTTPS", Port=443, Certificates=theirs)


def listener(port: int = 443) -> Any:
    [one] = elbv2_backends[ACCOUNT][REGION].load_balancers.values()
    [found] = [each for each in one.listeners.values() if int(each.port) == port]
    return found


def theirs() -> str:
    """The certificate that was there at first."""
    certificates = acm_backends[ACCOUNT][REGION]._certificates
    [arn] = [arn for arn, one in certificates.items() if "certd:name" not in dict(one.tags)]
    return arn


class BalancerContract(TargetContract):
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
