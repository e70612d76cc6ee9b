"""Google Cloud DNS and its tokens: what it holds, what it refuses, and the form of both.

The forms are Google's own: each request and each answer is held to the discovery document.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import dns.rdata
import jsonschema
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tests.http_server import Request, Response

PROJECT = "project-1"
PAGE = 2
SCOPE = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
AUDIENCE = "https://oauth2.googleapis.com/token"  # wherever the request for a token goes
_METHODS = (
    ("managedZones", "list", "dns.managedZones.list"),
    ("managedZones", "get", "dns.managedZones.get"),
    ("resourceRecordSets", "list", "dns.resourceRecordSets.list"),
    ("changes", "create", "dns.changes.create"),
)


def discovery() -> dict[str, Any]:
    documents = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents"
    found: dict[str, Any] = json.loads((documents / "dns.v1.json").read_text())
    return found


def as_json_schema(part: Any) -> Any:
    """A schema of a discovery document, which is an older draft's with references by bare name."""
    if isinstance(part, list):
        return [as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return {"$ref": f"#/$defs/{part['$ref']}"}
    kept = ("type", "properties", "items", "enum", "additionalProperties")
    made: dict[str, Any] = {}
    for key in kept:
        if key == "properties" and key in part:
            made[key] = {name: as_json_schema(one) for name, one in part[key].items()}
        elif key in part:
            made[key] = as_json_schema(part[key])
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


class Forms:
    """What Google's API takes and gives."""

    def __init__(self) -> None:
        self._document = discovery()
        schemas = self._document["schemas"]
        self._defs = {name: as_json_schema(schema) for name, schema in schemas.items()}

    def check(self, value: Any, name: str) -> None:
        schema = {"$ref": f"#/$defs/{name}", "$defs": self._defs}
        jsonschema.Draft202012Validator(schema).validate(value)

    def method(self, request: Request) -> tuple[dict[str, Any], str, dict[str, str]] | None:
        """The method that is asked for, the permission it needs, and what is in its path."""
        for resource, verb, permission in _METHODS:
            method = self._document["resources"][resource]["methods"][verb]
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", method["path"])
            found = re.fullmatch(f"/{pattern}", request.path)
            if found and method["httpMethod"] == request.method:
                unknown = set(request.query) - set(method["parameters"])
                assert not unknown, f"there are no parameters {unknown}"
                return method, permission, found.groupdict()
        return None


def problem(status: int, reason: str, message: str = "no") -> Response:
    errors = [{"domain": "global", "reason": reason, "message": message}]
    return Response(status, {"error": {"code": status, "message": message, "errors": errors}})


@dataclass
class Google:
    """``may``: what each account is allowed; ``sets``: by managed zone, name and type."""

    forms: Forms
    key: rsa.RSAPrivateKey
    zones: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    may: dict[str, frozenset[str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""
    _count: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def zone(self, name: str, dns_name: str, visibility: str = "public") -> None:
        self.zones[name] = {"name": name, "dnsName": f"{dns_name}.", "visibility": visibility}

    def account(self, email: str, *may: str) -> str:
        """A new service account's key."""
        self.may[email] = frozenset(may)
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        key = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": private.decode(),
            "client_email": email,
            "token_uri": f"{self.url}/token",
        }
        return json.dumps(key)

    def values(self, zone: str, name: str) -> list[str]:
        found = self.sets.get((zone, f"{name}.", "TXT"), {"rrdatas": []})
        return ["".join(part.split('"')[1::2]) for part in found["rrdatas"]]

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path == "/token":
                return self._token(request)
            return self._api(request)

    def _token(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode()))
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        decode: Any = jwt.decode
        try:
            claims = decode(form["assertion"], certs=public.decode(), audience=AUDIENCE)
        except ValueError:
            told = "Invalid JWT Signature."
            return Response(400, {"error": "invalid_grant", "error_description": told})
        if claims["iss"] not in self.may or claims["scope"] != SCOPE:
            told = "Invalid grant: account not found"
            return Response(400, {"error": "invalid_grant", "error_description": told})
        token = f"token-{next(self._count)}"
        self.tokens[token] = claims["iss"]
        return Response(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _api(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return problem(401, "authError", "Invalid Credentials")
        asked = self.forms.method(request)
        if asked is None:
            return problem(404, "notFound")
        method, permission, path = asked
        if permission not in self.may[self.tokens[token]]:
            return problem(403, "forbidden", f"Permission '{permission}' denied on the resource")
        zone = path.get("managedZone")
        if path["project"] != PROJECT or (zone is not None and zone not in self.zones):
            told = f"The 'parameters.managedZone' resource named '{zone}' does not exist."
            return problem(404, "notFound", told)
        if "request" in method:
            self.forms.check(request.json, method["request"]["$ref"])
        answer = self._done(permission, str(zone), request, self.may[self.tokens[token]])
        if answer.status == 200:
            self.forms.check(answer.body, method["response"]["$ref"])
        return answer

    def _done(self, what: str, zone: str, request: Request, may: frozenset[str]) -> Response:
        if what == "dns.managedZones.list":
            return self._list(request)
        if what == "dns.managedZones.get":
            return Response(200, self.zones[zone])
        if what == "dns.resourceRecordSets.list":
            asked = (zone, request.query["name"], request.query["type"])
            return Response(200, {"rrsets": [self.sets[asked]] if asked in self.sets else []})
        return self._change(zone, request.json, may)

    def _list(self, request: Request) -> Response:
        wanted = request.query.get("dnsName")
        found = [
            zone for _, zone in sorted(self.zones.items()) if wanted in (None, zone["dnsName"])
        ]
        start = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {"managedZones": found[start : start + PAGE]}
        if start + PAGE < len(found):
            page["nextPageToken"] = str(start + PAGE)
        return Response(200, page)

    def _change(self, zone: str, change: dict[str, Any], may: frozenset[str]) -> Response:
        after, additions, deletions = dict(self.sets), change["additions"], change["deletions"]
        if not additions and not deletions:
            return problem(400, "required", "Required entity.change")
        verb = "update" if additions and deletions else "create" if additions else "delete"
        if f"dns.resourceRecordSets.{verb}" not in may:
            told = f"Permission 'dns.resourceRecordSets.{verb}' denied on the resource"
            return problem(403, "forbidden", told)
        for index, old in enumerate(deletions):
            where = (zone, old["name"], old["type"])
            if after.pop(where, None) != old:  # their order counts too
                told = f"Precondition not met for 'entity.change.deletions[{index}]'"
                return problem(412, "conditionNotMet", told)
        for index, new in enumerate(additions):
            where = (zone, new["name"], new["type"])
            if where in after:
                told = (
                    f"The resource 'entity.change.additions[{index}]' named '{new['name']} (TXT)'"
                )
                return problem(409, "alreadyExists", f"{told} already exists")
            if _wrong(new, self.zones[zone]["dnsName"]):
                told = f"Invalid value for 'entity.change.additions[{index}].rrdata[0]'"
                return problem(400, "invalid", told)
            after[where] = new
        self.sets = after
        number = str(next(self._count))
        return Response(200, {**change, "kind": "dns#change", "id": number, "status": "pending"})


def _wrong(new: dict[str, Any], zone: str) -> bool:
    if not (new["name"] == zone or new["name"].endswith(f".{zone}")) or not new["rrdatas"]:
        return True
    if len(set(new["rrdatas"])) < len(new["rrdatas"]) or not 0 <= new["ttl"] < 2**31:
        return True
    try:
        for text in new["rrdatas"]:
            dns.rdata.from_text("IN", "TXT", text)
    except dns.exception.DNSException:
        return True
    return not all(text.startswith('"') for text in new["rrdatas"])
