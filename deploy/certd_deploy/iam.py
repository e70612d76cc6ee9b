"""Server certificates in AWS IAM, which load balancers and CloudFront take.

A server certificate cannot be changed: each version is one of its own, ``NAME-FINGERPRINT``. The
tag ``certd:turn`` says in which order they were put in place; the highest is the one that is.

What is uploaded: https://docs.aws.amazon.com/IAM/latest/APIReference/API_UploadServerCertificate.html
Names and quotas: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html

The least that must be allowed (PATH is the setting; the first cannot be limited):

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": "iam:ListServerCertificates", "Resource": "*"},
      {"Effect": "Allow", "Action": ["iam:UploadServerCertificate", "iam:GetServerCertificate",
        "iam:DeleteServerCertificate", "iam:TagServerCertificate",
        "iam:ListServerCertificateTags"],
       "Resource": "arn:aws:iam::ACCOUNT:server-certificate/*"}]}
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import Bundle, ConfigError, TargetBusy, TargetError, failpoint, fingerprint
from certd_deploy.aws import TAG, AWSTarget, check_pair

LONGEST_NAME, LONGEST_PATH = 128, 512  # characters
SHOWN = 16  # characters of the fingerprint in a name
TURN = "certd:turn"
_PATH = re.compile(r"/([\w+=,.@-]+/)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A server certificate of one lineage."""

    name: str
    arn: str
    id: str  # what CloudFront names it by
    turn: int


def check_path(path: str) -> None:
    if not _PATH.fullmatch(path) or len(path) > LONGEST_PATH:
        raise ConfigError(
            f'"{path}" is no path of server certificates',
            f"it begins and ends with /, has letters, digits and _+=,.@- between, {LONGEST_PATH} "
            "characters at most",
            'write "/", or "/cloudfront/" for what CloudFront is to serve',
        )


PATH: dict[str, Any] = {"description": "path of the server certificates", "check": check_path}


@dataclass(frozen=True, slots=True)
class IAM(AWSTarget):
    """Server certificates in AWS IAM, for what takes them from there."""

    service: ClassVar[str] = "iam"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed: iam:ListServerCertificates on *, iam:UploadServerCertificate"
        ", iam:GetServerCertificate, iam:DeleteServerCertificate, iam:TagServerCertificate and "
        "iam:ListServerCertificateTags on arn:aws:iam::ACCOUNT:server-certificate/*"
    )

    path: str = field(default="/", metadata={**PATH, "example": "/cloudfront/"})

    def deploy(self, bundle: Bundle) -> None:
        with self.client() as iam:
            there = listed(iam, self.path, bundle.name)
            now = put(iam, self.path, bundle, there)
        with nothing_put_back(), self.client() as iam:
            prune(iam, there, {now.arn})

    def serving(self, name: str) -> str:
        with self.client() as iam:
            there = listed(iam, self.path, name)
            return leaf(iam, there[0].name) if there else ""

    def place(self, name: str) -> str:
        return self.whose(f"IAM server certificates {self.path}{name}-*")

    def resource(self, operation: str) -> str:
        return resource(operation)


def put(iam: Any, path: str, bundle: Bundle, there: Collection[Uploaded]) -> Uploaded:
    """Have this bundle beside those that are ``there``, as the one in place.

    Raises:
        TargetError: it is no pair, the quota is used up, or the name is somebody else's.
    """
    check_pair(bundle)
    name = _name(path, bundle)
    found = next((one for one in there if one.name == name), None)
    others = max((one.turn for one in there if one is not found), default=0)
    if found is None:
        found = _upload(iam, path, name, others + 1, bundle)
        failpoint("iam: certificate uploaded")
    elif leaf(iam, name) != bundle.certificate.fingerprint:
        raise _foreign(name)
    if found.turn <= others:
        _tag(iam, name, others + 1)
        failpoint("iam: earlier certificate in place again")
    return found


def listed(iam: Any, path: str, lineage: str) -> list[Uploaded]:
    """This lineage's, the one in place first."""
    pages = iam.get_paginator("list_server_certificates").paginate(PathPrefix=path)
    found = [
        _uploaded(one, _turn(iam, one["ServerCertificateName"]))
        for page in pages
        for one in page["ServerCertificateMetadataList"]
        if is_own(one["Arn"], path, lineage)
    ]
    return sorted(found, key=lambda one: -one.turn)


def is_own(arn: str, path: str, lineage: str) -> bool:
    """Whether an ARN is a server certificate of this lineage."""
    name = rf"{re.escape(lineage)}-[0-9a-f]{{{SHOWN}}}{re.escape(_suffix(path))}"
    return re.search(f":server-certificate{re.escape(path)}{name}$", arn) is not None


@contextlib.contextmanager
def nothing_put_back() -> Iterator[None]:
    """What fails in here comes after a deployment that has not: the new version stays.

    Raises:
        TargetBusy: for whatever fails, so that it is told, and tried again.
    """
    try:
        yield
    except TargetError as error:
        if isinstance(error, TargetBusy):
            raise
        what = f"the new version is in place, but old server certificates stay: {error.what}"
        raise TargetBusy(what, error.why, error.next) from None


def prune(iam: Any, there: Collection[Uploaded], keep: Collection[str]) -> None:
    """Delete those that were ``there`` but for these ARNs or ids, and the newest that make it two.

    What something still uses is left there until the next time: IAM does not delete it.
    """
    others = [one for one in there if not {one.arn, one.id} & set(keep)]
    for old in others[max(2 - len(keep), 0) :]:
        try:
            iam.delete_server_certificate(ServerCertificateName=old.name)
        except (iam.exceptions.DeleteConflictException, iam.exceptions.NoSuchEntityException):
            continue
        failpoint("iam: old certificate deleted")


def leaf(iam: Any, name: str) -> str:
    """The fingerprint of the certificate of this name; "" if there is none."""
    try:
        found = iam.get_server_certificate(ServerCertificateName=name)["ServerCertificate"]
    except iam.exceptions.NoSuchEntityException:
        return ""
    return fingerprint(found["CertificateBody"])


def resource(operation: str) -> str:
    """What IAM wants a permission to be on."""
    if operation == "ListServerCertificates":
        return "*"
    return "arn:aws:iam::ACCOUNT:server-certificate/*"


def _upload(iam: Any, path: str, name: str, turn: int, bundle: Bundle) -> Uploaded:
    chain = {"CertificateChain": bundle.chain_pem} if bundle.chain_pem else {}
    tags = {TAG: bundle.name, TURN: str(turn)}
    try:
        done = iam.upload_server_certificate(
            Path=path,
            ServerCertificateName=name,
            CertificateBody=bundle.leaf_pem,
            PrivateKey=bundle.key_pem.reveal(),
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            **chain,
        )
        return _uploaded(done["ServerCertificateMetadata"], turn)
    except iam.exceptions.EntityAlreadyExistsException:
        # Uploaded a moment ago, perhaps, and not in the list yet.
        there = iam.get_server_certificate(ServerCertificateName=name)["ServerCertificate"]
        known = there["ServerCertificateMetadata"]
        wanted = (path, bundle.certificate.fingerprint)
        if (known["Path"], fingerprint(there["CertificateBody"])) != wanted:
            raise _foreign(name) from None
        return _uploaded(known, _turn(iam, name))
    except iam.exceptions.LimitExceededException as error:
        raise TargetError(
            "IAM has no room for another server certificate",
            str(error.response["Error"].get("Message", "the quota is used up")),
            "delete what nobody uses (`aws iam list-server-certificates`), or ask AWS for a higher "
            'quota (20 is usual); `store = "acm"` has room for more',
        ) from None


def _tag(iam: Any, name: str, turn: int) -> None:
    tags = [{"Key": TURN, "Value": str(turn)}]
    iam.tag_server_certificate(ServerCertificateName=name, Tags=tags)


def _turn(iam: Any, name: str) -> int:
    """0 where there is none: it was uploaded by hand, or is just being deleted."""
    try:
        tags = iam.list_server_certificate_tags(ServerCertificateName=name)["Tags"]
    except iam.exceptions.NoSuchEntityException:
        return 0
    found = next((tag["Value"] for tag in tags if tag["Key"] == TURN), "")
    return int(found) if found.isascii() and found.isdecimal() else 0


def _uploaded(metadata: dict[str, Any], turn: int) -> Uploaded:
    name, arn = metadata["ServerCertificateName"], metadata["Arn"]
    return Uploaded(name, arn, metadata["ServerCertificateId"], turn)


def _name(path: str, bundle: Bundle) -> str:
    """Unique in the account, whatever the paths: so the path is in it."""
    name = f"{bundle.name}-{bundle.certificate.fingerprint[:SHOWN]}{_suffix(path)}"
    if len(name) > LONGEST_NAME:
        what = f"the server certificate's name would be {len(name)} characters long"
        raise TargetError(what, f"IAM takes {LONGEST_NAME}: {name}", "write a shorter path")
    return name


def _suffix(path: str) -> str:
    return path.rstrip("/").replace("/", "-")


def _foreign(name: str) -> TargetError:
    what, why = f"the server certificate {name} is not certd's", "it holds another certificate"
    return TargetError(what, why, "delete it, or rename the certificate")
