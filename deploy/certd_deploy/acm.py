"""Certificates imported into AWS Certificate Manager, always to the same ARN.

Whatever uses the ARN serves the new certificate by itself. It is found by the tag ``certd:name``,
which is given with the first import: a repeat of an import whose answer was lost finds it too.

Importing: https://docs.aws.amazon.com/acm/latest/APIReference/API_ImportCertificate.html
What may change: https://docs.aws.amazon.com/acm/latest/userguide/import-reimport.html
Quotas: https://docs.aws.amazon.com/acm/latest/userguide/acm-limits.html

The least that must be allowed (the first two cannot be limited; with ``arn`` the first is not
needed, nor are the tags):

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": ["acm:ListCertificates", "acm:ImportCertificate"],
       "Resource": "*"},
      {"Effect": "Allow", "Action": ["acm:GetCertificate", "acm:ImportCertificate",
        "acm:AddTagsToCertificate", "acm:ListTagsForCertificate"],
       "Resource": "arn:aws:acm:REGION:ACCOUNT:certificate/*"}]}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from certd.api import (
    Bundle,
    ConfigError,
    Managed,
    TargetBusy,
    TargetError,
    failpoint,
    fingerprint,
    plain,
)
from certd_deploy.aws import TAG, AWSTarget, check_pair

DAY = 86400.0  # seconds
CALM = 300.0  # seconds that a service is left alone which says that it is asked too often
# Without these the list has RSA keys of up to 2048 bits only.
KEY_TYPES = (
    *("RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096"),
    *("EC_prime256v1", "EC_secp384r1", "EC_secp521r1"),
)
_ARN = re.compile(r"arn:aws[a-z-]*:acm:([a-z0-9-]+):\d{12}:certificate/[\w-]+", re.ASCII)


def check_arn(arn: str) -> None:
    if not _ARN.fullmatch(arn):
        raise ConfigError(
            f'"{arn}" is no ARN of a certificate',
            "it looks like arn:aws:acm:us-east-1:123456789012:certificate/12345678-…",
            "copy it from `aws acm list-certificates`, or leave it out",
        )


@dataclass(frozen=True, slots=True)
class ACM(AWSTarget):
    """Certificates in AWS Certificate Manager, each always at the same ARN."""

    service: ClassVar[str] = "acm"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed: acm:ListCertificates and acm:ImportCertificate on *, "
        "acm:GetCertificate, acm:AddTagsToCertificate and acm:ListTagsForCertificate on "
        "arn:aws:acm:REGION:ACCOUNT:certificate/*"
    )

    arn: str | None = field(
        default=None,
        metadata={
            "description": "certificate to import to, which is there; else one is made, and found "
            "by its tag certd:name",
            "check": check_arn,
            "example": "arn:aws:acm:us-east-1:123456789012:certificate/"
            "12345678-1234-1234-1234-123456789012",
        },
    )

    def __post_init__(self) -> None:
        AWSTarget.__post_init__(self)
        found = self.arn and _ARN.fullmatch(self.arn)
        if found and found[1] != self.region:
            why = f'arn is of {found[1]}, and region = "{self.region}"'
            raise ConfigError("arn is in another region", why, f'write region = "{found[1]}"')

    def deploy(self, bundle: Bundle) -> None:
        with self.client() as acm:
            put(acm, bundle, self.arn)

    def serving(self, name: str) -> str:
        with self.client() as acm:
            arn = self.arn or find(acm, name)
            return leaf(acm, arn) if arn else ""

    def place(self, name: str) -> str:
        return self.arn or self.whose(f"ACM in {self.region}, certd:name={name}")

    def managed(self) -> Collection[Managed]:
        """Those that ACM has issued itself, and renews."""
        with self.client() as acm:
            return [_managed(one) for one in _listed(acm) if one.get("Type") == "AMAZON_ISSUED"]

    def resource(self, operation: str) -> str:
        return resource(operation)


def put(
    acm: Any, bundle: Bundle, arn: str | None = None, kinds: Collection[str] = KEY_TYPES
) -> str:
    """Have this bundle there; returns its ARN, which is that of the version before.

    ``kinds``: the keys that the version before may have; else it gets an ARN of its own.

    Raises:
        TargetBusy: a quota of imports is used up, or ACM is asked too often.
        TargetError: it is no pair, or cannot take the other's place.
    """
    check_pair(bundle)
    names = {identifier.value for identifier in bundle.certificate.identifiers}
    arn = arn or find(acm, bundle.name, names, kinds)
    if arn is not None and leaf(acm, arn) == bundle.certificate.fingerprint:
        return arn
    # Tags can be given with the first import only.
    to: dict[str, Any] = {"CertificateArn": arn}
    if arn is None:
        to = {"Tags": [{"Key": TAG, "Value": bundle.name}]}
    if bundle.chain_pem:
        to["CertificateChain"] = bundle.chain_pem
    key = bundle.key_pem.reveal()
    try:
        done = acm.import_certificate(Certificate=bundle.leaf_pem, PrivateKey=key, **to)
    except acm.exceptions.ClientError as error:
        if (explained := _explained(error, arn)) is None:
            raise
        raise explained from None
    failpoint("acm: certificate imported")
    return str(done["CertificateArn"])


def find(
    acm: Any, name: str, names: Collection[str] = (), kinds: Collection[str] = KEY_TYPES
) -> str | None:
    """The ARN of this lineage; ``names`` are those of its certificate, where they are known.

    Where there is more than one, it is one that is used.
    """
    imported = [one for one in _listed(acm, kinds) if one.get("Type") == "IMPORTED"]
    # The likeliest first, for each that is looked at is a request.
    imported.sort(key=lambda one: (one.get("DomainName") not in names, not one.get("InUse")))
    arns = (str(one["CertificateArn"]) for one in imported)
    return next((arn for arn in arns if is_own(acm, arn, name)), None)


def is_own(acm: Any, arn: str, name: str) -> bool:
    """Whether it is this lineage's."""
    try:
        tags = acm.list_tags_for_certificate(CertificateArn=arn)["Tags"]
    except acm.exceptions.ResourceNotFoundException:  # deleted since
        return False
    return {"Key": TAG, "Value": name} in tags


def kind(key: CertificatePublicKeyTypes) -> str:
    """Of a key, as ACM calls it."""
    if isinstance(key, EllipticCurvePublicKey):
        return f"EC_{key.curve.name.replace('secp256r1', 'prime256v1')}"
    return f"RSA_{key.key_size}" if isinstance(key, RSAPublicKey) else "unknown"


def leaf(acm: Any, arn: str) -> str:
    """The fingerprint of what is at an ARN; "" if there is nothing."""
    try:
        return fingerprint(acm.get_certificate(CertificateArn=arn)["Certificate"])
    except acm.exceptions.ResourceNotFoundException:
        return ""


def resource(operation: str) -> str:
    """What IAM wants a permission to be on."""
    if operation in ("ListCertificates", "ImportCertificate"):
        return "*"
    return "arn:aws:acm:REGION:ACCOUNT:certificate/*"


def _listed(acm: Any, kinds: Collection[str] = KEY_TYPES) -> Iterator[dict[str, Any]]:
    pages = acm.get_paginator("list_certificates").paginate(Includes={"keyTypes": [*kinds]})
    for page in pages:
        yield from page["CertificateSummaryList"]


def _managed(one: dict[str, Any]) -> Managed:
    # The list has the first 100 names; "DomainName" is one of them.
    others = one.get("SubjectAlternativeNameSummaries") or ()
    names = dict.fromkeys((one.get("DomainName", ""), *others))
    return Managed(
        one["CertificateArn"],
        tuple(filter(None, names)),
        one.get("NotAfter"),  # none before it is issued
        one.get("Status", "unknown"),
    )


def _explained(error: Any, arn: str | None) -> TargetError | None:
    """What a refused import means, where more is to be said than ACM says."""
    problem = error.response.get("Error", {})
    code, said = problem.get("Code", ""), plain(problem.get("Message", ""))
    if code == "LimitExceededException":
        return TargetBusy(
            "ACM takes no more imports",
            said or "a quota is used up",
            "it is tried again in a day; delete certificates that nobody uses, or ask AWS for a "
            "higher quota (of certificates, or of imports in a year)",
            DAY,
        )
    if code in ("ThrottlingException", "Throttling"):
        what, todo = "ACM is asked too often", "it is tried again by itself"
        return TargetBusy(what, said or code, todo, CALM)
    if code == "ResourceNotFoundException" and arn is not None:
        why, todo = f"there is nothing at {arn}", "correct arn, or leave it out"
        return TargetError("ACM has no such certificate", why, todo)
    if code in ("ValidationException", "InvalidArnException") and arn is not None:
        return TargetError(
            "ACM does not put this certificate in the place of the one before",
            said or code,
            "kind of key and its usages cannot change at an ARN: remove the tag certd:name there "
            f"(or arn here), and it gets an ARN of its own; until now it was {arn}",
        )
    return None
