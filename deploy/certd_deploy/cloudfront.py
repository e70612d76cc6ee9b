"""The certificate of an Amazon CloudFront distribution; the rest of it stays as it was read.

Changing one: https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_UpdateDistribution.html
Certificates: https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_ViewerCertificate.html
Which keys: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cnames-and-https-requirements.html

CloudFront takes certificates of ACM from us-east-1 only, wherever else things are.

The least that must be allowed, besides what the store takes (see ``iam`` and ``acm``):

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": ["cloudfront:GetDistribution",
        "cloudfront:GetDistributionConfig", "cloudfront:UpdateDistribution"],
       "Resource": "arn:aws:cloudfront::ACCOUNT:distribution/ID"}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from certd.api import Bundle, ConfigError, TargetBusy, TargetError, failpoint
from certd_deploy import iam
from certd_deploy.aws import check_pair, once_known
from certd_deploy.awsstored import Kept, Stored

REGION = "us-east-1"
PROTOCOL = "TLSv1.2_2021"  # where the distribution had no certificate of its own
LOOK = 10.0  # seconds between two looks at a change that is on its way
TRIES = 3  # at a distribution that others change at the same time
_ID = re.compile(r"[A-Z0-9]{6,32}", re.ASCII)
_PROTOCOL = re.compile(r"TLSv1(\.[0-9]_20[0-9]{2}|_2016)?", re.ASCII)
_DEPRECATED = ("Certificate", "CertificateSource")


def check_distribution(distribution: str) -> None:
    if not _ID.fullmatch(distribution):
        what = f'"{distribution}" is no id of a distribution'
        raise ConfigError(
            what, "it looks like E1ABCDEFGHIJKL", "see `aws cloudfront list-distributions`"
        )


def check_path(path: str) -> None:
    iam.check_path(path)
    if not path.startswith("/cloudfront/"):
        why = "CloudFront takes server certificates below /cloudfront/ only"
        raise ConfigError(f'"{path}" is not for CloudFront', why, 'write "/cloudfront/"')


def check_protocol(protocol: str) -> None:
    if not _PROTOCOL.fullmatch(protocol):
        what = f'"{protocol}" is no minimum protocol of CloudFront'
        raise ConfigError(what, "", f'write "{PROTOCOL}", or leave it out')


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudFront(Stored):
    """The certificate of an Amazon CloudFront distribution."""

    service: ClassVar[str] = "cloudfront"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed: cloudfront:GetDistribution, "
        "cloudfront:GetDistributionConfig and cloudfront:UpdateDistribution on "
        "arn:aws:cloudfront::ACCOUNT:distribution/ID; and what the targets iam or acm are, "
        "by store (of ACM in us-east-1)"
    )

    distribution: str = field(
        metadata={
            "description": "id of the distribution",
            "check": check_distribution,
            "example": "E1ABCDEFGHIJKL",
            "missing": "every cloudfront target is one distribution",
        }
    )
    path: str = field(default="/cloudfront/", metadata={**iam.PATH, "check": check_path})
    minimum_protocol: str | None = field(
        default=None,
        metadata={
            "description": "oldest TLS that viewers may speak; else what the distribution has",
            "check": check_protocol,
            "example": PROTOCOL,
        },
    )

    def __post_init__(self) -> None:
        Stored.__post_init__(self)
        if self.store == "acm" and self.region.startswith("cn-"):
            why = "in China CloudFront takes certificates of IAM only"
            raise ConfigError('store = "acm" is not possible here', why, 'write store = "iam"')

    @property
    def store_region(self) -> str:
        return REGION

    def deploy(self, bundle: Bundle) -> None:
        key = check_pair(bundle)
        if isinstance(key, EllipticCurvePublicKey) and key.curve.name != "secp256r1":
            why, todo = f"its key is on {key.curve.name}", 'write key = "ec-p256", or an RSA one'
            raise TargetError("CloudFront does not take this certificate", why, todo)
        with self.client() as cloudfront:
            before = self._read(cloudfront)[0]["ViewerCertificate"]
            now = self.put(bundle)
            invalid = cloudfront.exceptions.InvalidViewerCertificate
            once_known(lambda: self._switch(cloudfront, now), invalid)
        used = before.get("IAMCertificateId")
        self.tidy(bundle.name, {now.arn, *([used] if used and used != now.id else ())})

    def serving(self, name: str) -> str:
        """
        Raises:
            TargetBusy: a change is on its way to the edges, which serve the one or the other.
        """
        with self.client() as cloudfront:
            found = cloudfront.get_distribution(Id=self.distribution)["Distribution"]
        viewer = found["DistributionConfig"].get("ViewerCertificate", {})
        if found["Status"] != "Deployed":
            what = f"a change of distribution {self.distribution} is on its way to the edges"
            why, todo = "that takes minutes", "it is looked at again by itself"
            raise TargetBusy(what, why, todo, LOOK)
        if arn := viewer.get("ACMCertificateArn"):
            return self.leaf(arn)
        return self._leaf_of(viewer.get("IAMCertificateId"), name)

    def ready(self, name: str) -> None:
        with self.client() as cloudfront:
            self._read(cloudfront)

    def place(self, name: str) -> str:
        return f"CloudFront distribution {self.distribution}"

    def resource(self, operation: str) -> str:
        if operation.startswith(("GetDistribution", "UpdateDistribution")):
            return f"arn:aws:cloudfront::ACCOUNT:distribution/{self.distribution}"
        return Stored.resource(self, operation)

    def _read(self, cloudfront: Any) -> tuple[dict[str, Any], str]:
        """Its configuration, and the ETag of that."""
        try:
            found = cloudfront.get_distribution_config(Id=self.distribution)
        except cloudfront.exceptions.NoSuchDistribution:
            what = f"there is no distribution {self.distribution}"
            todo = "see `aws cloudfront list-distributions`, and correct distribution"
            raise TargetError(what, "not in this account", todo) from None
        config: dict[str, Any] = found["DistributionConfig"]
        config.setdefault("ViewerCertificate", {"CloudFrontDefaultCertificate": True})
        return config, found["ETag"]

    def _switch(self, cloudfront: Any, kept: Kept) -> None:
        for _ in range(TRIES):
            config, etag = self._read(cloudfront)
            viewer = self._viewer(config["ViewerCertificate"], kept)
            if viewer == _current(config["ViewerCertificate"]):
                return
            own = {"CloudFrontDefaultCertificate": False, **viewer}
            new = {**config, "ViewerCertificate": own}
            update = cloudfront.update_distribution
            try:
                update(Id=self.distribution, IfMatch=etag, DistributionConfig=new)
            except (
                cloudfront.exceptions.PreconditionFailed,
                cloudfront.exceptions.InvalidIfMatchVersion,
            ):
                continue  # somebody else was faster: what they did must stay
            failpoint("cloudfront: distribution changed")
            return
        what, why = "the distribution cannot be changed", "others change it all the time"
        raise TargetBusy(what, why, "it is tried again by itself")

    def _viewer(self, before: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
        """What is to be; how it is served stays, for an address of its own costs money."""
        own = not before.get("CloudFrontDefaultCertificate")
        method = before.get("SSLSupportMethod") if own else None
        protocol = before.get("MinimumProtocolVersion") if own else None
        which = {"IAMCertificateId": kept.id} if kept.id else {"ACMCertificateArn": kept.arn}
        return {
            **which,
            "SSLSupportMethod": method or "sni-only",
            "MinimumProtocolVersion": self.minimum_protocol or protocol or PROTOCOL,
        }

    def _leaf_of(self, used: str | None, lineage: str) -> str:
        """The fingerprint of a server certificate by its id; "" if it is not of this lineage."""
        if not used:
            return ""
        with self.client(service="iam") as client:
            there = iam.listed(client, self.path, lineage)
            return next((iam.leaf(client, one.name) for one in there if one.id == used), "")


def _current(viewer: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says the same in other words, or is empty."""
    return {key: value for key, value in viewer.items() if value and key not in _DEPRECATED}
