"""AWS's services as moto has them, over HTTP, with what it leaves out and targets depend on.

``Front`` stands before them: it counts what is asked, and refuses or loses what a test wants.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from moto import backends
from moto.acm.models import acm_backends
from moto.cloudfront.models import cloudfront_backends
from moto.elasticbeanstalk.models import eb_backends
from moto.elb.models import elb_backends
from moto.elbv2.models import elbv2_backends
from moto.iam.models import iam_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.server import ThreadedMotoServer

from certd.api import Bundle, SecretReference
from certd.references import reference
from tests.aws_gaps import REGION, fill
from tests.http_server import Lost, Request, Response, forwarded

_CLOUDFRONT = {
    ("GET", "config"): "GetDistributionConfig",
    ("PUT", "config"): "UpdateDistribution",
}
_READS = re.compile("Get|List|Describe")
_PREFIX = {"CertificateManager": "acm", "secretsmanager": "secretsmanager"}

_USED: tuple[Any, ...] = (
    *(acm_backends, cloudfront_backends, eb_backends, elb_backends, elbv2_backends),
    *(iam_backends, secretsmanager_backends),
)

_ORIGIN = {
    "Id": "site",
    "DomainName": "origin.example.com",
    "CustomOriginConfig": {
        "HTTPPort": 80,
        "HTTPSPort": 443,
        "OriginProtocolPolicy": "https-only",
    },
}
_BEHAVIOUR = {
    "TargetOriginId": "site",
    "ViewerProtocolPolicy": "redirect-to-https",
    "MinTTL": 10,
    "ForwardedValues": {"QueryString": True, "Cookies": {"Forward": "none"}},
}
# What somebody may have made at CloudFront.
DISTRIBUTION = {
    "CallerReference": "somebody",
    "Aliases": {"Quantity": 1, "Items": ["www.example.com"]},
    "Origins": {"Quantity": 1, "Items": [_ORIGIN]},
    "DefaultCacheBehavior": _BEHAVIOUR,
    "Comment": "the site",
    "Enabled": True,
}

Step = Callable[[Request], Response]


def secret(text: str) -> SecretReference:
    return reference(text, Path("/"))


SECRET = "an-aws-secret-access-key"


def account(url: str) -> dict[str, Any]:
    """Settings that every target at AWS has."""
    return {"access_key_id": "AKIACERTD", "secret_access_key": secret(SECRET), "url": url}


def boto(service: str, url: str) -> Any:
    """As somebody else at the same account."""
    key = {"aws_access_key_id": "AKIAOTHER", "aws_secret_access_key": "other"}
    return boto3.client(service, REGION, endpoint_url=url, **key)


@dataclass
class Front:
    """Answers for moto. ``calls`` are IAM's names of what was asked, such as iam:GetUser."""

    moto: str
    calls: list[str] = field(default_factory=list)
    _plans: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, request: Request) -> Response:
        action = asked(request)
        self.calls.append(action)
        plan = self._plans[action]
        return plan.pop(0)(request) if plan else forwarded(self.moto, request)

    @property
    def writes(self) -> int:
        return sum(not _READS.match(action.partition(":")[2]) for action in self.calls)

    def count(self, action: str) -> int:
        return self.calls.count(action)

    def refuse(self, action: str, status: int, code: str, said: str = "", times: int = 1) -> None:
        def answer(request: Request) -> Response:
            return refused(request, status, code, said)

        self._plans[action] += [answer] * times

    def answer(self, action: str, response: Response) -> None:
        self._plans[action].append(lambda request: response)

    def lose_answer(self, action: str) -> None:
        def answer(request: Request) -> Response:
            forwarded(self.moto, request)
            raise Lost

        self._plans[action].append(answer)

    def first(self, action: str, happens: Callable[[], object]) -> None:
        """Something that comes in between, before this is done."""

        def answer(request: Request) -> Response:
            happens()
            return forwarded(self.moto, request)

        self._plans[action].append(answer)

    @contextlib.contextmanager
    def refusing(self, *actions: str) -> Iterator[None]:
        for action in actions:
            self.refuse(action, 503, "ServiceUnavailable", times=50)
        try:
            yield
        finally:
            self._plans.clear()


class _Crash(BaseException):
    """In place of the end of the process."""


def deployed_with_crashes(
    target: Any, bundles: Iterable[Bundle], monkeypatch: pytest.MonkeyPatch, *modules: ModuleType
) -> list[str]:
    """The steps of these modules, in their order: at each, one of the deployments has ended once.

    Either the version before is served after that, or already the new one.
    """
    seen: list[str] = []

    def crash(step: str) -> None:
        if step not in seen:
            seen.append(step)
            raise _Crash

    for module in modules:
        monkeypatch.setattr(module, "failpoint", crash)
    for wanted in bundles:
        before, new = target.serving(wanted.name), wanted.certificate.fingerprint
        while True:
            try:
                target.deploy(wanted)
                break
            except _Crash:
                assert target.serving(wanted.name) in (before, new)
        assert target.serving(wanted.name) == new
    return seen


def asked(request: Request) -> str:
    if target := request.headers.get("x-amz-target"):
        service, _, operation = target.partition(".")
        return f"{_PREFIX[service]}:{operation}"
    if "/distribution/" in request.path:
        last = request.path.rpartition("/")[2]
        return f"cloudfront:{_CLOUDFRONT.get((request.method, last), 'GetDistribution')}"
    operation = parse_qs(request.body.decode())["Action"][0]
    found = re.search("/([a-z]+)/aws4_request", request.headers["authorization"])
    assert found
    return f"{found[1]}:{operation}"


def refused(request: Request, status: int, code: str, said: str) -> Response:
    """As the service asked writes it."""
    if "x-amz-target" in request.headers:
        body = json.dumps({"__type": code, "message": said}).encode()
        return Response(status, body, {"Content-Type": "application/x-amz-json-1.1"})
    words = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{said}</Message></Error>"
    whole = f"<ErrorResponse>{words}<RequestId>1</RequestId></ErrorResponse>"
    return Response(status, whole.encode(), {"Content-Type": "text/xml"})


def allowed(*modules: ModuleType) -> set[str]:
    """The actions of the policies in the modules' docstrings."""
    actions: set[str] = set()
    for module in modules:
        text = (module.__doc__ or "").partition('{"Version"')
        policy, _ = json.JSONDecoder().raw_decode(text[1] + text[2])
        for statement in policy["Statement"]:
            may = statement["Action"]
            actions.update([may] if isinstance(may, str) else may)
    return actions


@contextlib.contextmanager
def running() -> Iterator[str]:
    # It lists the folder of its services anew for each request.
    backends.list_of_moto_modules = functools.partial(tuple, backends.list_of_moto_modules())
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # The descriptions of AWS's services stay anyway, and looking through them takes its time.
    gc.collect()
    gc.freeze()
    try:
        yield f"http://{host}:{port}"
    finally:
        gc.unfreeze()
        server.stop()


def empty(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of this machine's, nothing of another test's; and what moto leaves out."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("certd_deploy.aws.PAUSE", 0.01)
    for of_service in _USED:  # not all: the networks of EC2 are the same for each test, and slow
        of_service.clear()
    fill(monkeypatch)
