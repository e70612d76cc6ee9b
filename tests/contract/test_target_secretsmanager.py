"""AWS Secrets Manager: the contract, and what is its own. The other side is moto."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from certd_deploy import secretsmanager
from certd_deploy.secretsmanager import SecretsManager
from moto.secretsmanager.models import secretsmanager_backends

from certd.api import Bundle, ConfigError, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, REGION
from tests.aws_services import SECRET, Front, account, boto, deployed_with_crashes

DOCUMENTED = (secretsmanager,)

PUT, CREATE = "secretsmanager:PutSecretValue", "secretsmanager:CreateSecret"
MOVE = "secretsmanager:UpdateSecretVersionStage"


@pytest.fixture
def target(url: str) -> SecretsManager:
    return SecretsManager(**account(url))


def versions(name: str = "certd/www") -> dict[str, dict[str, Any]]:
    there = secretsmanager_backends[ACCOUNT][REGION].secrets
    return dict(there[name].versions) if name in there else {}


def current(name: str = "certd/www") -> str | None:
    texts = [
        each["secret_string"]
        for each in versions(name).values()
        if "AWSCURRENT" in each["version_stages"]
    ]
    return str(texts[0]) if texts else None


class Contract(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)
    format = "json"

    @pytest.fixture
    def target(self, url: str, front: Front) -> SecretsManager:
        self.front = front
        return SecretsManager(format=self.format, **account(url))

    def in_place(self, target: SecretsManager, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        if not versions(f"certd/{name}"):
            return None
        while (text := current(f"certd/{name}")) is None:
            time.sleep(0.001)  # moto takes the stage away before it puts it somewhere else
        return self.parsed(text)

    def parsed(self, text: str) -> Pair:
        parts = json.loads(text)
        assert parts["fullchain"] == parts["certificate"] + parts["chain"]
        return Pair(parts["fullchain"], parts["private_key"])

    def out_of_order(self, target: SecretsManager) -> AbstractContextManager[None]:
        return self.front.refusing(PUT, CREATE)

    def writes(self, target: SecretsManager) -> int:
        return self.front.writes


class TestJSON(Contract):
    pass


class TestPEM(Contract):
    format = "key-first"

    def parsed(self, text: str) -> Pair:
        end = "-----END PRIVATE KEY-----\n"
        key, _, chain = text.partition(end)
        return Pair(chain, key + end)


def test_a_version_is_named_by_what_is_in_it(target: SecretsManager, moto: str) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    target.deploy(second)
    listed = boto("secretsmanager", moto).list_secret_version_ids(SecretId="certd/www")
    stages = {each["VersionId"]: each["VersionStages"] for each in listed["Versions"]}
    assert sorted(stages.values()) == [["AWSCURRENT"], ["AWSPREVIOUS"]]
    [secret] = boto("secretsmanager", moto).list_secrets()["SecretList"]
    assert secret["Tags"] == [{"Key": "certd:name", "Value": "www"}]


def test_going_back_moves_the_stage_and_stores_nothing(
    target: SecretsManager, front: Front
) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    for one in (first, second, first):
        target.deploy(one)
        assert target.serving("www") == one.certificate.fingerprint
    assert len(versions()) == 2
    assert front.count(MOVE) == 1
    assert sorted(each["version_stages"] for each in versions().values()) == [
        ["AWSCURRENT"],
        ["AWSPREVIOUS"],
    ]


@pytest.mark.parametrize("action", [CREATE, PUT, MOVE])
def test_an_answer_that_is_lost_costs_no_second_version(
    target: SecretsManager, front: Front, action: str
) -> None:
    order = {CREATE: [1], PUT: [1, 2], MOVE: [1, 2, 1]}[action]
    bundles = {number: bundle("www", number) for number in (1, 2)}
    for number in order[:-1]:
        target.deploy(bundles[number])
    last = bundles[order[-1]]
    front.lose_answer(action)
    with pytest.raises(TargetBusy):
        target.deploy(last)
    target.deploy(last)
    assert target.serving("www") == last.certificate.fingerprint
    assert front.count(action) == 1
    assert len(versions()) == len(set(order))


def test_a_secret_that_somebody_made_beforehand_is_filled(
    target: SecretsManager, moto: str
) -> None:
    boto("secretsmanager", moto).create_secret(Name="certd/www")
    assert target.serving("www") == ""
    one = bundle()
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"fullchain": 1}', "password", "\0"])
def test_what_is_not_of_certd_is_nothing(target: SecretsManager, moto: str, text: str) -> None:
    boto("secretsmanager", moto).create_secret(Name="certd/www", SecretString=text or "x")
    assert target.serving("www") == ""
    assert target.recover("www") is None
    one = bundle()
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


def test_a_key_of_another_certificate_is_no_pair_and_is_put_right(
    target: SecretsManager, moto: str
) -> None:
    one = bundle()
    target.deploy(one)
    parts = {**json.loads(current() or ""), "private_key": bundle("www", 2).key_pem.reveal()}
    boto("secretsmanager", moto).put_secret_value(
        SecretId="certd/www", SecretString=json.dumps(parts)
    )
    assert target.serving("www") == ""
    target.deploy(one)
    assert target.serving("www") == one.certificate.fingerprint


def test_another_format_is_another_version(target: SecretsManager) -> None:
    one = bundle()
    target.deploy(one)
    replace(target, format="key-first").deploy(one)
    assert current() == one.key_pem.reveal() + one.fullchain_pem
    assert len(versions()) == 2
    pair = target.recover("www")
    assert pair is not None
    assert (pair.fullchain_pem, pair.key_pem.reveal()) == (
        one.fullchain_pem,
        one.key_pem.reveal(),
    )


def test_a_secret_that_is_about_to_be_deleted_is_told(target: SecretsManager, moto: str) -> None:
    target.deploy(bundle())
    boto("secretsmanager", moto).delete_secret(SecretId="certd/www")
    with pytest.raises(TargetError, match="cannot be read") as refused:
        target.deploy(bundle("www", 2))
    assert "restore-secret" in refused.value.next


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        pytest.param(400, "ThrottlingException", TargetBusy, "Throttling", id="throttled"),
        pytest.param(500, "InternalServiceError", TargetBusy, "Internal", id="500"),
        pytest.param(
            400, "AccessDeniedException", TargetError, '"secretsmanager:PutSecretValue"', id="no"
        ),
        pytest.param(400, "LimitExceededException", TargetError, "Limit", id="quota"),
        pytest.param(
            400, "UnrecognizedClientException", TargetError, "refuses the credential", id="no key"
        ),
        pytest.param(
            400, "InvalidSignatureException", TargetError, "refuses the credential", id="wrong key"
        ),
        pytest.param(
            400, "ExpiredTokenException", TargetError, "refuses the credential", id="old token"
        ),
    ],
)
def test_what_is_refused(
    target: SecretsManager, front: Front, status: int, code: str, kind: type[Any], words: str
) -> None:
    older = bundle()
    target.deploy(older)
    front.refuse(PUT, status, code, "so it is")
    with pytest.raises(TargetError, match=words) as refused:
        target.deploy(bundle("www", 2))
    assert type(refused.value) is kind
    assert target.serving("www") == older.certificate.fingerprint


def test_what_is_too_large_is_told(target: SecretsManager, front: Front) -> None:
    one: Bundle = bundle()
    with pytest.raises(TargetError, match="too large"):
        target.deploy(replace(one, chain_pem=one.chain_pem * 100))
    assert front.calls == []


def test_what_is_no_pair_is_never_sent(target: SecretsManager, front: Front) -> None:
    with pytest.raises(TargetError, match="nothing is sent to AWS"):
        target.deploy(replace(bundle(), key_pem=new_key("ec-p256")))
    assert front.calls == []


def test_a_crash_anywhere_is_gone_on_from(
    target: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    again = (first, second, first)
    seen = deployed_with_crashes(target, again, monkeypatch, secretsmanager)
    assert len(seen) == 3
    assert len(versions()) == 2


@pytest.mark.parametrize("secret", ["", "a b", "{other}", "x" * 449, "arn:aws:iam::1:x"])
def test_names_that_are_none(secret: str) -> None:
    with pytest.raises(ConfigError, match="no name of a secret"):
        secretsmanager.check_secret(secret)


@pytest.mark.parametrize(
    "secret", ["certd/{name}", "tls", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbC"]
)
def test_names_that_are_good(secret: str) -> None:
    secretsmanager.check_secret(secret)
