"""What moto leaves out of AWS, and targets depend on."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from moto.acm.exceptions import AWSValidationException
from moto.acm.models import AWSCertificateManagerBackend, acm_backends
from moto.cloudfront.exceptions import CloudFrontException
from moto.cloudfront.models import CloudFrontBackend, cloudfront_backends
from moto.core.responses import ActionResult, EmptyResult
from moto.elasticbeanstalk.exceptions import InvalidParameterValueError
from moto.elasticbeanstalk.responses import EBResponse
from moto.elb.exceptions import ELBClientError
from moto.elb.models import elb_backends
from moto.elb.responses import ELBResponse
from moto.elbv2.models import ELBv2Backend, elbv2_backends
from moto.iam.exceptions import IAMException
from moto.iam.models import IAMBackend, iam_backends
from moto.iam.responses import IamResponse
from moto.moto_api._internal import mock_random

from certd.testing.targets import Pair

ACCOUNT, REGION = "123456789012", "us-east-1"
QUOTA = 20


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in (_acm, _balancers, _cloudfront, _iam):
        service(monkeypatch)


def _acm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags stay when something else is imported to an ARN, and cannot be given then; the kind
    of key cannot change at one.
    """
    imports: Any = AWSCertificateManagerBackend.import_certificate

    def imported(self: Any, *pair: Any, arn: Any, tags: Any, **rest: Any) -> Any:
        if arn and tags:
            raise AWSValidationException("Tagging is not permitted on re-import.")
        before = self._certificates.get(arn)
        done = imports(self, *pair, arn=arn, tags=tags, **rest)
        now = self._certificates[done]
        now.chain = rest["chain"] or b""  # without a root that nobody sent
        if before is not None:
            if len({one.describe()["Certificate"]["KeyAlgorithm"] for one in (before, now)}) > 1:
                self._certificates[arn] = before
                raise AWSValidationException("The key type cannot change.")
            now.tags = before.tags
        return done

    monkeypatch.setattr(AWSCertificateManagerBackend, "import_certificate", imported)


def _iam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags, names that are taken, the quota, paths, and that nothing in use is deleted."""
    upload, listing = IamResponse.upload_server_certificate, IamResponse.list_server_certificates
    delete = IAMBackend.delete_server_certificate

    def uploaded(self: Any) -> Any:
        name = self._get_param("ServerCertificateName")
        there = [each.cert_name for each in self.backend.certificates.values()]
        if name in there:
            raise IAMException("EntityAlreadyExists", f"{name} already exists")
        if len(there) >= QUOTA:
            raise IAMException("LimitExceeded", f"Cannot exceed quota: {QUOTA}")
        answer = upload(self)
        self.backend.get_server_certificate(name).tags = _tags(self)
        told: Any = answer.result
        told["ServerCertificateMetadata"]["ServerCertificateId"] = _id(name)
        return answer

    def listed(self: Any) -> Any:
        answer = listing(self)
        all_of_them: Any = answer.result
        prefix = self._get_param("PathPrefix") or "/"
        key = "ServerCertificateMetadataList"
        those = [
            {**each, "ServerCertificateId": _id(each["ServerCertificateName"])}
            for each in all_of_them[key]
            if each["Path"].startswith(prefix)
        ]
        return ActionResult({**all_of_them, key: those})

    def tag(self: Any) -> Any:
        found = self.backend.get_server_certificate(self._get_param("ServerCertificateName"))
        found.tags = {**getattr(found, "tags", {}), **_tags(self)}
        return EmptyResult()

    def tags(self: Any) -> Any:
        found = self.backend.get_server_certificate(self._get_param("ServerCertificateName"))
        pairs = getattr(found, "tags", {}).items()
        return ActionResult({"Tags": [{"Key": key, "Value": value} for key, value in pairs]})

    def deleted(self: Any, name: str) -> Any:
        if self.get_server_certificate(name).arn in in_use():
            raise IAMException("DeleteConflict", f"{name} is currently in use by arn:aws:…")
        return delete(self, name)

    monkeypatch.setattr(IamResponse, "upload_server_certificate", uploaded)
    monkeypatch.setattr(IamResponse, "list_server_certificates", listed)
    monkeypatch.setattr(IamResponse, "tag_server_certificate", tag, raising=False)
    monkeypatch.setattr(IamResponse, "list_server_certificate_tags", tags, raising=False)
    monkeypatch.setattr(IAMBackend, "delete_server_certificate", deleted)


def in_use() -> set[str | None]:
    """The ARNs at load balancers."""
    classic = elb_backends[ACCOUNT][REGION].load_balancers.values()
    newer = elbv2_backends[ACCOUNT][REGION].load_balancers.values()
    return {
        *(each.ssl_certificate_id for one in classic for each in one.listeners),
        *(arn for one in newer for each in one.listeners.values() for arn in each.certificates),
    }


def _id(name: str) -> str:
    """moto gives all of them the same."""
    return f"ASCA{hashlib.sha256(name.encode()).hexdigest()[:17].upper()}"


def server_certificate(which: str) -> Any:
    """The one of this id."""
    there = iam_backends[ACCOUNT]["aws"].certificates.values()
    [found] = [one for one in there if _id(one.cert_name) == which]
    return found


def kept(arn: str) -> Pair:
    """What is at an ARN, with its key."""
    if ":iam:" in arn:
        there = iam_backends[ACCOUNT]["aws"].get_certificate_by_arn(arn)
        assert there is not None
        return Pair(f"{there.cert_body}\n{there.cert_chain}", there.private_key)
    one = acm_backends[ACCOUNT][REGION]._certificates[arn]
    return Pair((one.cert + one.chain).decode(), one.key.decode())


def _balancers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates and load balancers that are not there; further certificates that stay."""
    switch, create = (
        ELBResponse.set_load_balancer_listener_ssl_certificate,
        ELBResponse.create_load_balancer_listeners,
    )
    modify = ELBv2Backend.modify_listener

    def known(arn: str) -> None:
        if ":iam:" in arn and iam_backends[ACCOUNT]["aws"].get_certificate_by_arn(arn) is None:
            said = f"Server Certificate not found for the key: {arn}"
            raise ELBClientError("CertificateNotFound", said)

    def switched(self: Any) -> Any:
        self.elb_backend.describe_load_balancers([self._get_param("LoadBalancerName")])
        known(self._get_param("SSLCertificateId"))
        return switch(self)

    def created(self: Any) -> Any:
        self.elb_backend.describe_load_balancers([self._get_param("LoadBalancerName")])
        for each in self._get_param("Listeners"):
            known(each.get("SSLCertificateId") or "")
        return create(self)

    def modified(self: Any, arn: str, *args: Any, **rest: Any) -> Any:
        before = self.describe_listeners(load_balancer_arn=None, listener_arns=[arn])[0]
        further = list(before.certificates[1:])
        listener: Any = modify(self, arn, *args, **rest)
        listener.certificates = [listener.certificate, *further]
        return listener

    def resources(self: Any) -> Any:
        name = self._get_param("EnvironmentName")
        found = self.elasticbeanstalk_backend.__dict__.get("balancers", {})
        if name not in found:
            raise InvalidParameterValueError(f"No Environment found for EnvironmentName {name}")
        those = [{"Name": each} for each in found[name]]
        whole = {"EnvironmentName": name, "LoadBalancers": those, "Instances": []}
        return ActionResult({"EnvironmentResources": whole})

    monkeypatch.setattr(ELBResponse, "set_load_balancer_listener_ssl_certificate", switched)
    monkeypatch.setattr(ELBResponse, "create_load_balancer_listeners", created)
    monkeypatch.setattr(ELBv2Backend, "modify_listener", modified)
    monkeypatch.setattr(EBResponse, "describe_environment_resources", resources, raising=False)


def _cloudfront(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution's ETag is that of what was read, and another one after each change."""
    update = CloudFrontBackend.update_distribution

    def updated(self: Any, dist_config: Any, _id: str, if_match: Any) -> Any:
        there = self.distributions.get(_id)
        if there is not None and if_match != there.etag:
            raise CloudFrontException("PreconditionFailed", "The precondition failed.")
        answer = update(self, dist_config, _id, if_match)
        cloudfront_backends[ACCOUNT]["aws"].distributions[_id].etag = mock_random.get_random_hex(14)
        return answer[0], answer[1], answer[0].etag

    monkeypatch.setattr(CloudFrontBackend, "update_distribution", updated)


def _tags(response: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in response._get_param("Tags", [])}
