"""A listener of an application or network load balancer (AWS ALB, NLB): its default certificate,
or one of those that it chooses by name (SNI).

Default certificate: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_ModifyListener.html
Further ones: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AddListenerCertificates.html
Security policies: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html

The least that must be allowed, besides what the store takes (see ``iam`` and ``acm``); the last
action is for ``environment`` only, the three before it for ``sni``:

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": ["elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:ModifyListener",
        "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:AddListenerCertificates",
        "elasticloadbalancing:RemoveListenerCertificates",
        "elasticbeanstalk:DescribeEnvironmentResources"], "Resource": "*"}]}
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import Bundle, ConfigError, TargetError, failpoint
from certd_deploy.aws import check_pair, once_known
from certd_deploy.awsstored import Balancer

_POLICY = re.compile(r"ELBSecurityPolicy-[\w-]+", re.ASCII)


def check_policy(policy: str) -> None:
    if not _POLICY.fullmatch(policy):
        raise ConfigError(
            f'"{policy}" is no security policy',
            "these load balancers have AWS's own only, such as ELBSecurityPolicy-TLS13-1-2-2021-06",
            "choose one of `aws elbv2 describe-ssl-policies`, or leave it out",
        )


@dataclass(frozen=True, slots=True)
class ELBv2(Balancer):
    """One listener of an application or network load balancer at AWS."""

    service: ClassVar[str] = "elbv2"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed on *: elasticloadbalancing:DescribeLoadBalancers, "
        "DescribeListeners and ModifyListener; for sni also DescribeListenerCertificates, "
        "AddListenerCertificates and RemoveListenerCertificates; for environment also "
        "elasticbeanstalk:DescribeEnvironmentResources; and what the targets iam or acm are, "
        "by store"
    )

    sni: bool = field(
        default=False,
        metadata={"description": "beside the default certificate, for whoever asks for its names"},
    )
    policy: str | None = field(
        default=None,
        metadata={
            "description": "security policy of the listener, one of AWS's",
            "check": check_policy,
            "example": "ELBSecurityPolicy-TLS13-1-2-2021-06",
        },
    )

    def deploy(self, bundle: Bundle) -> None:
        check_pair(bundle)
        with self.client() as elb:
            listener = self._listener(elb)  # asked first: nothing is uploaded in vain
            now = self.put(bundle).arn
            if self.sni:
                self._change(elb, listener, None)
                before = self._choose(elb, listener["ListenerArn"], bundle.name, now)
            else:
                before = _default(listener)
                self._change(elb, listener, now)
        self.tidy(bundle.name, {now, *([before] if before else ())})

    def serving(self, name: str) -> str:
        with self.client() as elb:
            listener = self._listener(elb)
            if not self.sni:
                arn = _default(listener)
                return self.leaf(arn) if arn else ""
            further = _further(elb, listener["ListenerArn"])
        ours = self.own(name, further)
        # Of two the load balancer takes whichever suits the client: a deployment was cut short.
        return self.leaf(ours[0]) if len(ours) == 1 else ""

    def ready(self, name: str) -> None:
        with self.client() as elb:
            self._listener(elb)

    def place(self, name: str) -> str:
        where = Balancer.place(self, name)
        return f"{where}, for the names of {name}" if self.sni else where

    def _listener(self, elb: Any) -> dict[str, Any]:
        name = self.balancer()
        which = {"LoadBalancerArns" if name.startswith("arn:") else "Names": [name]}
        try:
            [balancer] = elb.describe_load_balancers(**which)["LoadBalancers"]
        except elb.exceptions.LoadBalancerNotFoundException:
            why = f"there is none of that name in {self.region}, for this account"
            todo = 'correct load_balancer or region; of a classic one it is type = "elb"'
            raise TargetError(f"there is no load balancer {name}", why, todo) from None
        pages = elb.get_paginator("describe_listeners")
        arn = balancer["LoadBalancerArn"]
        for page in pages.paginate(LoadBalancerArn=arn):
            for each in page["Listeners"]:
                listener: dict[str, Any] = each
                if listener.get("Port") == self.port:
                    return self._of_tls(name, listener)
        why = "a listener needs to know where its requests go, which certd does not"
        todo = f"create an HTTPS listener at port {self.port}, with any certificate"
        raise TargetError(f"{name} has no listener at port {self.port}", why, todo)

    def _of_tls(self, name: str, listener: dict[str, Any]) -> dict[str, Any]:
        if listener["Protocol"] in ("HTTPS", "TLS"):
            return listener
        why = f"its listener there is {listener['Protocol']}, which has no certificate"
        todo = "write another port, or make that listener HTTPS (TLS at a network load balancer)"
        raise TargetError(f"{name} does not speak TLS at port {self.port}", why, todo)

    def _change(self, elb: Any, listener: dict[str, Any], default: str | None) -> None:
        """Certificate and policy at once, as far as they are others."""
        change: dict[str, Any] = {}
        if default is not None and _default(listener) != default:
            change["Certificates"] = [{"CertificateArn": default}]
        if self.policy is not None and listener.get("SslPolicy") != self.policy:
            change["SslPolicy"] = self.policy
        if change:
            arn, unknown = listener["ListenerArn"], elb.exceptions.CertificateNotFoundException
            once_known(lambda: elb.modify_listener(ListenerArn=arn, **change), unknown)
            failpoint("elbv2: listener changed")

    def _choose(self, elb: Any, listener: str, lineage: str, now: str) -> str | None:
        """Add the certificate, then remove ours of before; returns its ARN."""
        further = _further(elb, listener)
        unknown = elb.exceptions.CertificateNotFoundException
        if now not in further:
            those = [{"CertificateArn": now}]
            add = elb.add_listener_certificates
            once_known(lambda: add(ListenerArn=listener, Certificates=those), unknown)
            failpoint("elbv2: certificate added")
        old = [arn for arn in self.own(lineage, further) if arn != now]
        if old:
            those = [{"CertificateArn": arn} for arn in old]
            elb.remove_listener_certificates(ListenerArn=listener, Certificates=those)
            failpoint("elbv2: certificate removed")
        return old[-1] if old else None


def _default(listener: dict[str, Any]) -> str | None:
    there = listener.get("Certificates") or ()
    return next((str(one["CertificateArn"]) for one in there), None)


def _further(elb: Any, listener: str) -> list[str]:
    """The ARNs of what it has besides its default certificate."""
    pages = elb.get_paginator("describe_listener_certificates").paginate(ListenerArn=listener)
    return [
        str(one["CertificateArn"])
        for page in pages
        for one in page["Certificates"]
        if not one.get("IsDefault")
    ]
