"""The HTTPS listener of a classic load balancer (AWS ELB), and its security policy.

Listeners: https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/API_CreateLoadBalancerListeners.html
Certificates: https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/elb-update-ssl-cert.html
Policies: https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/ssl-config-update.html
Environments: https://docs.aws.amazon.com/elasticbeanstalk/latest/api/API_DescribeEnvironmentResources.html

The least that must be allowed, besides what the store takes (see ``iam`` and ``acm``); the last
action is for ``environment`` only, the one before it and CreateLoadBalancerPolicy for ``policy``:

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": ["elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeLoadBalancerPolicies",
        "elasticloadbalancing:SetLoadBalancerListenerSSLCertificate",
        "elasticloadbalancing:CreateLoadBalancerListeners",
        "elasticloadbalancing:CreateLoadBalancerPolicy",
        "elasticloadbalancing:SetLoadBalancerPoliciesOfListener",
        "elasticbeanstalk:DescribeEnvironmentResources"], "Resource": "*"}]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import Bundle, ConfigError, TargetError, failpoint
from certd_deploy.aws import check_pair, once_known
from certd_deploy.awsstored import STORE, Balancer
from certd_deploy.elbpolicies import KIND, check_policy, policy
from certd_deploy.settings import check_port

_FRONT = ("HTTPS", "SSL")
_BACK = {"HTTPS": ("HTTP", "HTTPS"), "SSL": ("TCP", "SSL")}


def check_protocol(protocol: str) -> None:
    if protocol not in _FRONT:
        what = f'"{protocol}" is no protocol of a listener with a certificate'
        raise ConfigError(what, "", 'write "HTTPS", or "SSL" for any bytes over TLS')


@dataclass(frozen=True, slots=True)
class ELB(Balancer):
    """One port of a classic load balancer at AWS, and its security policy."""

    service: ClassVar[str] = "elb"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed on *: elasticloadbalancing:DescribeLoadBalancers, "
        "DescribeLoadBalancerPolicies, SetLoadBalancerListenerSSLCertificate, "
        "CreateLoadBalancerListeners, CreateLoadBalancerPolicy and "
        "SetLoadBalancerPoliciesOfListener; for environment also "
        "elasticbeanstalk:DescribeEnvironmentResources; and what the targets iam or acm are, "
        "by store"
    )

    # Not through ACM: keys on elliptic curves are taken there by newer load balancers only.
    store: str = field(default="iam", metadata=STORE)
    protocol: str = field(
        default="HTTPS",
        metadata={
            "description": "of the listener, where it is made: HTTPS or SSL",
            "check": check_protocol,
        },
    )
    instance_port: int = field(
        default=80,
        metadata={"description": "port of the instances, for a new listener", "check": check_port},
    )
    instance_protocol: str = field(
        default="HTTP",
        metadata={"description": "what the instances speak: HTTP or HTTPS, TCP or SSL"},
    )
    policy: str | None = field(
        default=None,
        metadata={
            "description": "security policy: mozilla-modern, mozilla-intermediate, or one of AWS",
            "check": check_policy,
            "example": "mozilla-intermediate",
        },
    )

    def __post_init__(self) -> None:
        Balancer.__post_init__(self)
        if self.instance_protocol not in _BACK[self.protocol]:
            allowed = " or ".join(_BACK[self.protocol])
            what = f'instance_protocol = "{self.instance_protocol}" is not possible'
            why = f'behind protocol = "{self.protocol}" it is {allowed}'
            raise ConfigError(what, why, f"write {allowed}")

    def deploy(self, bundle: Bundle) -> None:
        check_pair(bundle)
        with self.client() as elb:
            name = self.balancer()
            listener = self._listener(elb, name)  # asked first: nothing is uploaded in vain
            before = listener and listener["Listener"].get("SSLCertificateId")
            now = self.put(bundle).arn
            if before != now:
                self._serve(elb, name, now, make=listener is None)
                failpoint("elb: listener switched")
            if self.policy is not None:
                self._secure(elb, name, *policy(self.policy))
        self.tidy(bundle.name, {now, *([before] if before else ())})

    def serving(self, name: str) -> str:
        with self.client() as elb:
            listener = self._listener(elb, self.balancer())
            arn = listener and listener["Listener"].get("SSLCertificateId")
            return self.leaf(arn) if arn else ""

    def ready(self, name: str) -> None:
        with self.client() as elb:
            self._listener(elb, self.balancer())

    def _listener(self, elb: Any, name: str) -> dict[str, Any] | None:
        """As it is described; None if there is none at this port."""
        if name.startswith("arn:"):
            why = f"it is {name}"
            raise TargetError("the load balancer is not classic", why, 'write type = "elbv2"')
        try:
            found = elb.describe_load_balancers(LoadBalancerNames=[name])
        except elb.exceptions.AccessPointNotFoundException:
            why = f"there is none of that name in {self.region}, for this account"
            todo = 'correct load_balancer or region; of newer load balancers it is type = "elbv2"'
            raise TargetError(f"there is no load balancer {name}", why, todo) from None
        listeners = found["LoadBalancerDescriptions"][0]["ListenerDescriptions"]
        for each in listeners:
            listener: dict[str, Any] = each
            if listener["Listener"]["LoadBalancerPort"] != self.port:
                continue
            protocol = listener["Listener"]["Protocol"]
            if protocol not in _FRONT:
                why = f"its listener there is {protocol}, which has no certificate"
                todo = "write another port, or delete that listener"
                raise TargetError(f"{name} does not speak TLS at port {self.port}", why, todo)
            return listener
        return None

    def _serve(self, elb: Any, name: str, arn: str, *, make: bool) -> None:
        unknown = elb.exceptions.CertificateNotFoundException
        if not make:
            change = elb.set_load_balancer_listener_ssl_certificate
            to = {"LoadBalancerName": name, "LoadBalancerPort": self.port, "SSLCertificateId": arn}
            once_known(lambda: change(**to), unknown)
            return
        listener = {
            "Protocol": self.protocol,
            "LoadBalancerPort": self.port,
            "InstanceProtocol": self.instance_protocol,
            "InstancePort": self.instance_port,
            "SSLCertificateId": arn,
        }
        create = elb.create_load_balancer_listeners
        once_known(lambda: create(LoadBalancerName=name, Listeners=[listener]), unknown)

    def _secure(self, elb: Any, name: str, wanted: str, attributes: dict[str, str]) -> None:
        """Put our policy in the place of the one for TLS; the others, as for cookies, stay."""
        listener = self._listener(elb, name)
        described = elb.describe_load_balancer_policies(LoadBalancerName=name)
        kinds = {
            one["PolicyName"]: one["PolicyTypeName"] for one in described["PolicyDescriptions"]
        }
        current = listener["PolicyNames"] if listener else []
        # What is not of this load balancer is one of AWS's own, which are all for TLS.
        others = [one for one in current if kinds.get(one, KIND) != KIND]
        if sorted(current) == sorted([*others, wanted]):
            return
        if wanted not in kinds:
            pairs = attributes.items()
            elb.create_load_balancer_policy(
                LoadBalancerName=name,
                PolicyName=wanted,
                PolicyTypeName=KIND,
                PolicyAttributes=[
                    {"AttributeName": key, "AttributeValue": value} for key, value in pairs
                ],
            )
            failpoint("elb: policy made")
        elb.set_load_balancer_policies_of_listener(
            LoadBalancerName=name, LoadBalancerPort=self.port, PolicyNames=[*others, wanted]
        )
        failpoint("elb: policy set")
