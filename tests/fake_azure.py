"""Azure DNS and the tokens for it, as Microsoft's REST reference describes them."""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.http_server import Request, Response

TENANT, SUBSCRIPTION, GROUP = "tenant.example", "sub-1", "dns"
PAGE = 2
MOST_RECORDS, MOST_TEXT = 20, 4096
_ZONES = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network/dnsZones"
)
_RECORD_SET = re.compile(r"/([^/]+)/TXT/([^/]+)")


def problem(status: int, code: str, message: str = "no") -> Response:
    return Response(status, {"error": {"code": code, "message": message}})


@dataclass
class Azure:
    """``may``: what each application is allowed, "*" or an action's end such as "TXT/write"."""

    zones: dict[str, str] = field(default_factory=dict)  # and their types
    sets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    may: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""
    _count: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def application(self, client_id: str, secret: str, *may: str) -> None:
        self.secrets[client_id] = secret
        self.may[client_id] = may

    def values(self, zone: str, label: str) -> list[str]:
        found = self.sets.get((zone, label), {"properties": {"TXTRecords": []}})
        return ["".join(each["value"]) for each in found["properties"]["TXTRecords"]]

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path.startswith(f"/{TENANT}/"):
                return self._authority(request)
            if request.path == "/identity":
                return self._machine(request)
            if request.path.startswith("/metadata/identity/"):
                return Response(400, {"error": "invalid_request"})  # a machine without an identity
            return self._management(request)

    def _authority(self, request: Request) -> Response:
        if request.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            base = f"{self.url}/{TENANT}/oauth2/v2.0"
            ends = {
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
            }
            return Response(200, {**ends, "issuer": f"{self.url}/{TENANT}/v2.0"})
        form = dict(parse_qsl(request.body.decode()))
        if request.path != f"/{TENANT}/oauth2/v2.0/token" or request.method != "POST":
            return Response(404)
        if form["grant_type"] != "client_credentials" or form["scope"] != f"{self.url}/.default":
            return Response(400, {"error": "invalid_scope", "error_description": "AADSTS70011"})
        client = form["client_id"]
        if client not in self.secrets:
            told = "AADSTS700016: Application not found in the directory."
            return Response(400, {"error": "unauthorized_client", "error_description": told})
        if form["client_secret"] != self.secrets[client]:
            told = "AADSTS7000215: Invalid client secret provided."
            return Response(401, {"error": "invalid_client", "error_description": told})
        return Response(200, {"token_type": "Bearer", "expires_in": 3599, **self._token(client)})

    def _machine(self, request: Request) -> Response:
        """What an App Service has for its managed identities."""
        if request.headers.get("x-identity-header") != "the machine":
            return Response(401)
        client = request.query.get("client_id", "machine")
        return Response(
            200, {"token_type": "Bearer", "expires_on": "4102444800", **self._token(client)}
        )

    def _token(self, client: str) -> dict[str, str]:
        token = f"token-{next(self._count)}"
        self.tokens[token] = client
        return {"access_token": token}

    def _management(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return problem(401, "InvalidAuthenticationToken", "The access token is invalid.")
        if request.query.get("api-version") != "2018-05-01":
            return problem(400, "InvalidApiVersionParameter")
        if not request.path.startswith(_ZONES):
            return problem(404, "ResourceGroupNotFound", "Resource group could not be found.")
        rest = request.path.removeprefix(_ZONES)
        kind = "dnsZones" if rest == "" else "dnsZones/TXT"
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}[request.method]
        may = self.may.get(self.tokens[token], ())
        if "*" not in may and f"{kind}/{verb}" not in may:
            told = (
                f"does not have authorization to perform action 'Microsoft.Network/{kind}/{verb}'"
            )
            return problem(403, "AuthorizationFailed", f"The client '{self.tokens[token]}' {told}.")
        if rest == "":
            return self._list(int(request.query.get("$skipToken", "0")))
        found = _RECORD_SET.fullmatch(rest)
        if found is None:
            return problem(404, "InvalidResourceType")
        if found[1] not in self.zones:
            told = f"the parent resource '{found[1]}' could not be found"
            return problem(404, "ParentResourceNotFound", told)
        return getattr(self, f"_{verb}")(found.groups(), request)  # type: ignore[no-any-return]

    def _list(self, start: int) -> Response:
        names = sorted(self.zones)
        page: dict[str, Any] = {
            "value": [
                {"name": name, "properties": {"zoneType": self.zones[name]}}
                for name in names[start : start + PAGE]
            ]
        }
        if start + PAGE < len(names):
            next_page = f"{_ZONES}?api-version=2018-05-01&$skipToken={start + PAGE}"
            page["nextLink"] = self.url + next_page
        return Response(200, page)

    def _read(self, where: tuple[str, str], request: Request) -> Response:
        if where not in self.sets:
            return problem(404, "NotFound", f"The resource record '{where[1]}' does not exist.")
        return Response(200, self.sets[where])

    def _write(self, where: tuple[str, str], request: Request) -> Response:
        there = self.sets.get(where)
        if self._overtaken(there, request):
            return problem(412, "PreconditionFailed", "The condition was not met.")
        given = request.json["properties"]
        texts = [tuple(each["value"]) for each in given.get("TXTRecords", [])]
        if not 1 <= given.get("TTL", 0) <= 2**31 - 1:
            return problem(400, "BadRequest", "The TTL is out of range.")
        if not texts or len(texts) > MOST_RECORDS or len(set(texts)) < len(texts):
            return problem(
                400, "BadRequest", "The record set has no, too many or the same records."
            )
        for text in texts:
            if sum(map(len, text)) > MOST_TEXT or any(len(part) > 255 for part in text):
                return problem(400, "BadRequest", "The TXT record is too long.")
        kept = {name: given[name] for name in ("TTL", "TXTRecords", "metadata") if name in given}
        etag = f"etag-{next(self._count)}"
        self.sets[where] = {"name": where[1], "etag": etag, "properties": kept}
        return Response(201 if there is None else 200, self.sets[where])

    def _delete(self, where: tuple[str, str], request: Request) -> Response:
        there = self.sets.get(where)
        if there is None:
            return Response(204)
        if self._overtaken(there, request):
            return problem(412, "PreconditionFailed", "The condition was not met.")
        del self.sets[where]
        return Response(200)

    @staticmethod
    def _overtaken(there: dict[str, Any] | None, request: Request) -> bool:
        if there is not None and request.headers.get("if-none-match") == "*":
            return True
        wanted = request.headers.get("if-match")
        return wanted is not None and (there is None or there["etag"] != wanted)
