"""Certificate and key as one secret in AWS Secrets Manager.

A version's id is made from what is in it, so the same is never stored twice, and going back is
moving the stage AWSCURRENT; AWSPREVIOUS stays at the one before.

Writing: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
Stages: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html

The least that must be allowed (with ``kms_key`` also kms:GenerateDataKey and kms:Decrypt on it):

    {"Version": "2012-10-17", "Statement": [
      {"Effect": "Allow", "Action": ["secretsmanager:CreateSecret",
        "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue",
        "secretsmanager:TagResource", "secretsmanager:UpdateSecretVersionStage"],
       "Resource": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:certd/*"}]}
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import Bundle, ConfigError, Pair, TargetError, failpoint
from certd_deploy.aws import TAG, AWSTarget, check_pair
from certd_deploy.pairtext import check_format, read, written
from certd_deploy.pem import pair_fingerprint
from certd_deploy.settings import PLACEHOLDER

CURRENT = "AWSCURRENT"
MOST = 65536  # bytes of a secret
_SECRET = re.compile(r"[\w/+=.@-]{1,448}", re.ASCII)  # and 64 for the certificate's name
_ARN = re.compile(r"arn:[\w-]+:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+", re.ASCII)


def check_secret(secret: str) -> None:
    if not _SECRET.fullmatch(secret.replace(PLACEHOLDER, "")) and not _ARN.fullmatch(secret):
        raise ConfigError(
            f'"{secret}" is no name of a secret',
            "it has letters, digits and /_+=.@-, and {name} for the name of the certificate",
            'write "certd/{name}", or the ARN of a secret that is there',
        )


@dataclass(frozen=True, slots=True)
class SecretsManager(AWSTarget):
    """Certificate and key as a secret in AWS Secrets Manager."""

    service: ClassVar[str] = "secretsmanager"
    credential: ClassVar[str] = (
        "an access key of an IAM user, or whatever boto3 finds by itself (environment, profile, "
        "the machine's role), allowed: secretsmanager:GetSecretValue, PutSecretValue, "
        "UpdateSecretVersionStage, and CreateSecret and TagResource where it makes the secret, "
        "on arn:aws:secretsmanager:REGION:ACCOUNT:secret:certd/*"
    )

    secret: str = field(
        default="certd/{name}",
        metadata={
            "description": "name of the secret; {name} is that of the certificate",
            "check": check_secret,
        },
    )
    format: str = field(
        default="json",
        metadata={
            "description": 'what is in it: "json" with certificate, chain, fullchain and '
            'private_key; or PEM: "combined" (leaf, chain, key) or "key-first"',
            "check": check_format,
        },
    )
    kms_key: str | None = field(
        default=None,
        metadata={"description": "KMS key of a new secret; else AWS's own for the account"},
    )

    def deploy(self, bundle: Bundle) -> None:
        check_pair(bundle)
        text = written(bundle, self.format)
        if len(text) > MOST:
            why = f"it would have {len(text)} bytes of {MOST}"
            raise TargetError("the secret is too large", why, "order a shorter chain")
        # Of public parts only; a key has but the one certificate.
        token = hashlib.sha256(f"{self.format}\n{bundle.fullchain_pem}".encode()).hexdigest()
        with self.client() as manager:
            name = self._name(bundle.name)
            current = self._current(manager, name)
            if current is None:
                self._create(manager, name, bundle.name, text, token)
            elif current["VersionId"] != token:
                _put(manager, name, text, token, current["VersionId"])

    def serving(self, name: str) -> str:
        found = self._found(name)
        return pair_fingerprint(found.fullchain_pem, found.key_pem.reveal()) if found else ""

    def recover(self, name: str) -> Pair | None:
        return self._found(name)

    def place(self, name: str) -> str:
        return self.whose(f"secret {self._name(name)} in {self.region}")

    def resource(self, operation: str) -> str:
        return "arn:aws:secretsmanager:REGION:ACCOUNT:secret:certd/*"

    def _name(self, lineage: str) -> str:
        return self.secret.replace(PLACEHOLDER, lineage)

    def _found(self, name: str) -> Pair | None:
        with self.client() as manager:
            current = self._current(manager, self._name(name))
        return read(current.get("SecretString", "")) if current else None

    def _current(self, manager: Any, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = manager.get_secret_value(SecretId=name, VersionStage=CURRENT)
        except manager.exceptions.ResourceNotFoundException:
            return None
        except manager.exceptions.InvalidRequestException as error:
            why = str(error.response["Error"].get("Message", "it is about to be deleted"))
            todo = f"`aws secretsmanager restore-secret --secret-id {name}`, or write another name"
            raise TargetError(f"the secret {name} cannot be read", why, todo) from None
        return found

    def _create(self, manager: Any, name: str, lineage: str, text: str, token: str) -> None:
        more = {} if self.kms_key is None else {"KmsKeyId": self.kms_key}
        try:
            manager.create_secret(
                Name=name,
                SecretString=text,
                ClientRequestToken=token,
                Description=f"certificate {lineage}, kept by certd",
                Tags=[{"Key": TAG, "Value": lineage}],
                **more,
            )
        except manager.exceptions.ResourceExistsException:
            # It is there without a version: somebody made it beforehand, for its permissions.
            _put(manager, name, text, token, None)
        failpoint("secretsmanager: secret made")


def _put(manager: Any, name: str, text: str, token: str, before: str | None) -> None:
    done = manager.put_secret_value(SecretId=name, SecretString=text, ClientRequestToken=token)
    failpoint("secretsmanager: version stored")
    if before is not None and CURRENT not in done.get("VersionStages", ()):
        # It was there already, as an earlier version: what is the same is not stored again.
        manager.update_secret_version_stage(
            SecretId=name, VersionStage=CURRENT, MoveToVersionId=token, RemoveFromVersionId=before
        )
        failpoint("secretsmanager: stage moved")
