"""What targets at AWS have in common that serve a certificate out of IAM or of ACM."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from certd.api import Bundle, ConfigError, TargetError
from certd_deploy import acm, iam
from certd_deploy.aws import AWSTarget, check_pair
from certd_deploy.settings import check_port

_IAM_NAME = re.compile(r"arn:[\w-]+:iam::\d+:server-certificate/(?:.*/)?([^/]+)", re.ASCII)
_ACM = re.compile(r"arn:[\w-]+:acm:", re.ASCII)


class Kept(NamedTuple):
    """A bundle as IAM or ACM has it."""

    arn: str
    id: str  # of a server certificate; "" in ACM


def check_store(store: str) -> None:
    if store not in ("iam", "acm"):
        todo = 'write "acm", or "iam" for server certificates'
        raise ConfigError(f'there is no store "{store}"', "", todo)


STORE = {"description": 'where the certificate is kept: "acm" or "iam"', "check": check_store}


@dataclass(frozen=True, slots=True)
class Stored(AWSTarget):
    """A target that names a certificate by its ARN."""

    store: str = field(default="acm", metadata=STORE)
    path: str = field(default="/", metadata=iam.PATH)

    @property
    def store_region(self) -> str:
        return self.region

    def put(self, bundle: Bundle) -> Kept:
        """Have the bundle in the store. Raises as ``certd_deploy.iam.put`` and ``acm.put``."""
        if self.store == "acm":
            with self.client(service="acm", region=self.store_region) as client:
                # Whoever names it by its ARN can name another, where the kind of key is one.
                return Kept(acm.put(client, bundle, kinds=[acm.kind(check_pair(bundle))]), "")
        with self.client(service="iam") as client:
            there = iam.listed(client, self.path, bundle.name)
            now = iam.put(client, self.path, bundle, there)
            return Kept(now.arn, now.id)

    def tidy(self, lineage: str, keep: Collection[str]) -> None:
        """Remove old versions from the store, but for these ARNs or ids."""
        if self.store == "iam":  # in ACM there is one of each kind of key
            with iam.nothing_put_back(), self.client(service="iam") as client:
                iam.prune(client, iam.listed(client, self.path, lineage), keep)

    def leaf(self, arn: str) -> str:
        """The fingerprint of what is at an ARN, whichever store it is in."""
        if _ACM.match(arn):
            with self.client(service="acm", region=self.store_region) as client:
                return acm.leaf(client, arn)
        if found := _IAM_NAME.fullmatch(arn):
            with self.client(service="iam") as client:
                return iam.leaf(client, found[1])
        return ""

    def own(self, lineage: str, arns: Collection[str]) -> list[str]:
        """Which of these ARNs are this lineage's."""
        if self.store == "iam":
            return [arn for arn in arns if iam.is_own(arn, self.path, lineage)]
        with self.client(service="acm", region=self.store_region) as client:
            return [arn for arn in arns if _ACM.match(arn) and acm.is_own(client, arn, lineage)]

    def resource(self, operation: str) -> str:
        if "ServerCertificate" in operation:
            return iam.resource(operation)
        if re.fullmatch(r"(Get|Import|List)Certificates?|(AddTagsTo|ListTagsFor)Cert.*", operation):
            return acm.resource(operation)
        return "*"


@dataclass(frozen=True, slots=True)
class Balancer(Stored):
    """A port of a load balancer, which is named, or an environment of Elastic Beanstalk has."""

    load_balancer: str | None = field(
        default=None,
        metadata={"description": "name of the load balancer", "example": "front"},
    )
    environment: str | None = field(
        default=None,
        metadata={
            "description": "environment of Elastic Beanstalk whose load balancer it is",
            "example": "shop-production",
        },
    )
    port: int = field(
        default=443,
        metadata={"description": "port of the listener", "check": check_port},
    )

    def __post_init__(self) -> None:
        AWSTarget.__post_init__(self)
        if (self.load_balancer is None) == (self.environment is None):
            why = "one of load_balancer and environment says which it is"
            how = "none" if self.load_balancer is None else "both"
            raise ConfigError(f"{how} of the two is there", why, "write one of them")

    def place(self, name: str) -> str:
        which = self.load_balancer or f"of environment {self.environment}"
        return self.whose(f"load balancer {which} in {self.region}, port {self.port}")

    def balancer(self) -> str:
        """Its name; the ARN where the environment has one that is not classic."""
        if self.load_balancer is not None:
            return self.load_balancer
        with self.client(service="elasticbeanstalk") as beanstalk:
            found = beanstalk.describe_environment_resources(EnvironmentName=self.environment)
            names = [each["Name"] for each in found["EnvironmentResources"]["LoadBalancers"]]
        if len(names) != 1:
            what = f"the environment {self.environment} has {len(names) or 'no'} load balancers"
            todo = "write load_balancer instead of environment"
            raise TargetError(what, ", ".join(names), todo)
        return str(names[0])
