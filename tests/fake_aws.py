"""What stands in front of Route 53: who asks, and whether a policy allows it. moto has the rest.

moto's own checks are of no use here: it signs GET requests otherwise than botocore, asks for no
resource but *, and refuses in a form that Route 53 does not have.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.http_server import Request, Response, forwarded

ZONE = "arn:aws:route53:::hostedzone/"
_ACTIONS = (
    ("GET", r"/2013-04-01/hostedzone", "route53:ListHostedZones", "*"),
    ("GET", r"/2013-04-01/hostedzonesbyname", "route53:ListHostedZonesByName", "*"),
    ("GET", r"/2013-04-01/hostedzone/([^/]+)", "route53:GetHostedZone", ZONE),
    ("GET", r"/2013-04-01/hostedzone/([^/]+)/rrset", "route53:ListResourceRecordSets", ZONE),
    ("POST", r"/2013-04-01/hostedzone/([^/]+)/rrset/?", "route53:ChangeResourceRecordSets", ZONE),
    ("GET", r"/2013-04-01/change/([^/]+)", "route53:GetChange", "arn:aws:route53:::change/"),
    ("POST", r"/", "sts:AssumeRole", "*"),
)


@dataclass(frozen=True)
class Gateway:
    """Answers for moto. ``allowed`` is actions and the resource they are allowed on."""

    moto: str
    secrets: dict[str, str] = field(default_factory=dict)
    allowed: dict[str, Iterable[tuple[str, str]]] = field(default_factory=dict)

    def user(self, key: str, secret: str, *allowed: tuple[str, str]) -> None:
        self.secrets[key] = secret
        self.allowed[key] = allowed

    def __call__(self, request: Request) -> Response:
        signed = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request, "
            r"SignedHeaders=([^,]+), Signature=([0-9a-f]+)",
            request.headers.get("authorization", ""),
        )
        if signed is None:
            return refusal(403, "MissingAuthenticationToken", "Missing Authentication Token")
        key, region, service, names, signature = signed.groups()
        if key not in self.secrets:
            return refusal(403, "InvalidClientTokenId", "The security token is invalid.")
        own = Credentials(key, self.secrets[key])
        if signature != _signature(request, SigV4Auth(own, service, region), names):
            return refusal(403, "SignatureDoesNotMatch", "The signature does not match.")
        action, resource = _asked(request)
        if not any(
            action == may and fnmatch.fnmatchcase(resource, on) for may, on in self.allowed[key]
        ):
            said = f"User: {key} is not authorized to perform: {action} on resource: {resource}"
            return refusal(403, "AccessDenied", said)
        return forwarded(self.moto, request)


def refusal(status: int, code: str, message: str) -> Response:
    """As Route 53 and STS write it."""
    said = f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
    whole = f"<ErrorResponse><Error>{said}</Error><RequestId>1</RequestId></ErrorResponse>"
    return Response(status, whole.encode(), {"Content-Type": "text/xml"})


def _asked(request: Request) -> tuple[str, str]:
    for method, pattern, action, resource in _ACTIONS:
        found = re.fullmatch(pattern, request.path)
        if found and method == request.method:
            return action, resource + (found[1] if found.groups() else "")
    raise AssertionError(f"nobody knows {request.method} {request.path}")


def _signature(request: Request, auth: SigV4Auth, names: str) -> str:
    headers: Mapping[str, str] = {name: request.headers[name] for name in names.split(";")}
    again = AWSRequest(request.method, request.target, headers, request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))
