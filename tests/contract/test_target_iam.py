"""Server certificates in IAM: the contract, and what is IAM's own. The other side is moto."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from certd_deploy import iam
from certd_deploy.iam import IAM
from moto.iam.models import iam_backends

from certd.api import Bundle, ConfigError, Secret, TargetBusy, TargetError
from certd.testing.chains import bundle
from certd.testing.targets import Pair, TargetContract
from certd.x509 import new_key
from tests.aws_gaps import ACCOUNT, QUOTA
from tests.aws_services import SECRET, Front, account, boto, deployed_with_crashes
from tests.http_server import Response

DOCUMENTED = (iam,)


@pytest.fixture
def target(url: str) -> IAM:
    return IAM(**account(url))


def stored() -> dict[str, Any]:
    return {each.cert_name: each for each in iam_backends[ACCOUNT]["aws"].certificates.values()}


def turns() -> dict[str, str]:
    return {name: each.tags["certd:turn"] for name, each in stored().items()}


def named(one: Bundle, suffix: str = "") -> str:
    return f"{one.name}-{one.certificate.fingerprint[:16]}{suffix}"


class TestIAM(TargetContract):
    secrets: ClassVar[tuple[str, ...]] = (SECRET,)

    @pytest.fixture
    def target(self, url: str, front: Front) -> IAM:
        self.front = front
        return IAM(**account(url))

    def in_place(self, target: IAM, name: str) -> Pair | None:
        time.sleep(0.005)  # the other side is in this process too
        ours = [each for each in list(stored().values()) if each.cert_name.startswith(f"{name}-")]
        if not ours:
            return None
        last = max(ours, key=lambda each: int(getattr(each, "tags", {}).get("certd:turn", 0)))
        return Pair(f"{last.cert_body}\n{last.cert_chain}", last.private_key)

    def out_of_order(self, target: IAM) -> AbstractContextManager[None]:
        return self.front.refusing("iam:UploadServerCertificate")

    def writes(self, target: IAM) -> int:
        return self.front.writes


def test_leaf_and_chain_are_uploaded_apart_under_a_name_of_their_own(
    target: IAM, moto: str
) -> None:
    one = bundle()
    target.deploy(one)
    other = boto("iam", moto)
    [listed] = other.list_server_certificates()["ServerCertificateMetadataList"]
    assert listed["ServerCertificateName"] == named(one)
    assert listed["Path"] == "/"
    whole = other.get_server_certificate(ServerCertificateName=named(one))["ServerCertificate"]
    assert whole["CertificateBody"].strip() == one.leaf_pem.strip()
    assert whole["CertificateChain"].strip() == one.chain_pem.strip()


def test_the_one_before_stays_and_what_is_older_goes(target: IAM) -> None:
    first, second, third = (bundle("www", number) for number in (1, 2, 3))
    for one in (first, second, third):
        target.deploy(one)
    assert stored().keys() == {named(second), named(third)}
    target.deploy(second)
    assert stored().keys() == {named(second), named(third)}, "nothing is uploaded again"
    assert target.serving("www") == second.certificate.fingerprint


def test_what_somebody_uses_is_kept_until_it_is_not_used(
    target: IAM, front: Front, moto: str
) -> None:
    first, second, third, fourth = (bundle("www", number) for number in (1, 2, 3, 4))
    target.deploy(first)
    elb = boto("elb", moto)
    plain = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
    secure = {"Protocol": "HTTPS", "LoadBalancerPort": 443, "InstancePort": 80}
    secure["SSLCertificateId"] = stored()[named(first)].arn
    zones = ["us-east-1a"]
    elb.create_load_balancer(
        LoadBalancerName="front", Listeners=[plain, secure], AvailabilityZones=zones
    )
    target.deploy(second)
    target.deploy(third)
    assert stored().keys() == {named(first), named(second), named(third)}
    assert front.count("iam:DeleteServerCertificate") == 1
    elb.delete_load_balancer(LoadBalancerName="front")
    target.deploy(fourth)
    assert stored().keys() == {named(third), named(fourth)}


def test_what_is_not_ours_is_left_alone(target: IAM, moto: str) -> None:
    other = boto("iam", moto)
    one = bundle("mail")
    names = ("www-2019", "www.rsa-0123456789abcdef", "www-0123456789abcdef-cloudfront", "www")
    for name in names:
        other.upload_server_certificate(
            ServerCertificateName=name,
            CertificateBody=one.leaf_pem,
            PrivateKey=one.key_pem.reveal(),
        )
    for number in range(1, 5):
        target.deploy(bundle("www", number))
    assert set(names) < stored().keys()
    assert len(stored()) == len(names) + 2


def test_a_path_has_certificates_of_its_own(target: IAM, url: str) -> None:
    one = bundle()
    target.deploy(one)
    edge = IAM(path="/cloudfront/www/", **account(url))
    edge.deploy(one)
    assert {name: each.path for name, each in stored().items()} == {
        named(one): "/",
        named(one, "-cloudfront-www"): "/cloudfront/www/",
    }
    assert target.serving("www") == edge.serving("www") == one.certificate.fingerprint
    assert target.place("www") != edge.place("www")


def test_a_full_quota_is_explained(target: IAM, moto: str) -> None:
    other, one = boto("iam", moto), bundle("other")
    for number in range(QUOTA):
        other.upload_server_certificate(
            ServerCertificateName=f"other{number}",
            CertificateBody=one.leaf_pem,
            PrivateKey=one.key_pem.reveal(),
        )
    with pytest.raises(TargetError, match="no room for another") as full:
        target.deploy(bundle())
    assert not isinstance(full.value, TargetBusy)
    assert str(QUOTA) in full.value.why
    assert "list-server-certificates" in full.value.next


def test_an_upload_whose_answer_is_lost_is_not_repeated(target: IAM, front: Front) -> None:
    one = bundle()
    front.lose_answer("iam:UploadServerCertificate")
    with pytest.raises(TargetBusy):
        target.deploy(one)
    target.deploy(one)
    assert front.count("iam:UploadServerCertificate") == 1
    assert target.serving("www") == one.certificate.fingerprint


def test_an_upload_that_the_list_does_not_have_yet_is_taken_as_it_is(
    target: IAM, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    front.lose_answer("iam:UploadServerCertificate")
    with pytest.raises(TargetBusy):
        target.deploy(second)
    new = stored()[named(second)]
    with monkeypatch.context() as late:
        late.setattr(new, "path", "/not/yet/")
        front.first("iam:GetServerCertificate", late.undo)
        target.deploy(second)
    assert turns() == {named(first): "1", named(second): "2"}
    assert target.serving("www") == second.certificate.fingerprint


def test_a_name_that_somebody_else_took_is_told(target: IAM, moto: str) -> None:
    one, other = bundle(), bundle("mail")
    boto("iam", moto).upload_server_certificate(
        ServerCertificateName=named(one),
        CertificateBody=other.leaf_pem,
        PrivateKey=other.key_pem.reveal(),
    )
    with pytest.raises(TargetError, match="is not certd's"):
        target.deploy(one)


@pytest.mark.parametrize("key", [new_key("ec-p256"), Secret("nonsense"), Secret("")])
def test_what_is_no_pair_is_never_sent(target: IAM, front: Front, key: Secret) -> None:
    older, bad = bundle(), replace(bundle("www", 2), key_pem=key)
    target.deploy(older)
    front.calls.clear()
    with pytest.raises(TargetError, match="nothing is sent to AWS") as refused:
        target.deploy(bad)
    assert front.writes == 0
    assert not [line for line in key.reveal().splitlines()[1:-1] if line in str(refused.value)]
    assert target.serving("www") == older.certificate.fingerprint


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        pytest.param(400, "Throttling", TargetBusy, id="throttled"),
        pytest.param(503, "ServiceUnavailable", TargetBusy, id="503"),
        pytest.param(500, "ServiceFailure", TargetBusy, id="500"),
        pytest.param(409, "EntityTemporarilyUnmodifiable", TargetBusy, id="just being changed"),
        pytest.param(400, "MalformedCertificate", TargetError, id="not taken"),
        pytest.param(403, "ExpiredToken", TargetError, id="an old token"),
    ],
)
def test_what_is_refused(
    target: IAM, front: Front, status: int, code: str, kind: type[TargetError]
) -> None:
    front.refuse("iam:UploadServerCertificate", status, code, "so it is")
    with pytest.raises(TargetError, match=f"{code}: so it is") as refused:
        target.deploy(bundle())
    assert type(refused.value) is kind


def test_a_page_of_something_in_between_is_not_shown(target: IAM, front: Front) -> None:
    front.answer("iam:ListServerCertificates", Response(502, b"<html><b>Bad gateway"))
    with pytest.raises(TargetBusy, match="502") as busy:
        target.deploy(bundle())
    assert "html" not in str(busy.value)


def test_a_permission_that_is_missing_is_named(target: IAM, front: Front) -> None:
    front.refuse("iam:TagServerCertificate", 403, "AccessDenied", "not you")
    first, second = bundle("www", 1), bundle("www", 2)
    target.deploy(first)
    target.deploy(second)
    with pytest.raises(TargetError, match="AWS refuses TagServerCertificate") as refused:
        target.deploy(first)
    assert '"iam:TagServerCertificate"' in refused.value.next
    assert target.serving("www") == second.certificate.fingerprint


def test_an_old_one_that_may_not_be_deleted_puts_nothing_back(target: IAM, front: Front) -> None:
    """It would show with the third version only, and no certificate would be renewed any more."""
    for number in (1, 2):
        target.deploy(bundle("www", number))
    front.refuse("iam:DeleteServerCertificate", 403, "AccessDenied", "not you")
    third = bundle("www", 3)
    with pytest.raises(TargetBusy, match="new version is in place, but old") as refused:
        target.deploy(third)
    assert '"iam:DeleteServerCertificate"' in refused.value.next
    assert target.serving("www") == third.certificate.fingerprint
    target.deploy(third)
    assert front.count("iam:UploadServerCertificate") == 3
    assert len(stored()) == 2


def test_a_crash_anywhere_is_gone_on_from(
    target: IAM, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = [bundle("www", number) for number in (1, 2, 3)]
    for one in bundles[:2]:
        target.deploy(one)
    again = (bundles[2], bundles[1])
    seen = deployed_with_crashes(target, again, monkeypatch, iam)
    assert len(seen) == 3
    assert front.count("iam:UploadServerCertificate") == 3
    assert stored().keys() == {named(bundles[1]), named(bundles[2])}


@pytest.mark.parametrize("path", ["", "cloudfront", "/cloudfront", "//", "/a b/", f"/{'a' * 511}/"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ConfigError, match="no path"):
        iam.check_path(path)


def test_a_name_that_becomes_too_long_is_told(url: str, front: Front) -> None:
    target = IAM(path=f"/{'a' * 60}/", **account(url))
    with pytest.raises(TargetError, match="129 characters long"):
        target.deploy(bundle("w" * 51))
    assert front.writes == 0
