"""A Google API's doorman: service accounts, tokens, permissions, and the form of what goes through.

The forms are Google's own: each request and each answer is held to the discovery document.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import jsonschema
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tests.http_server import Request, Response

PROJECT = "project-1"
AUDIENCE = "https://oauth2.googleapis.com/token"  # wherever the request for a token goes


def as_json_schema(part: Any) -> Any:
    """A schema of a discovery document, which is an older draft's with references by bare name."""
    if isinstance(part, list):
        return [as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return {"$ref": f"#/$defs/{part['$ref']}"}
    if part.get("type") == "any":
        return {}
    kept = ("type", "properties", "items", "enum", "additionalProperties")
    made: dict[str, Any] = {}
    for key in kept:
        if key == "properties" and key in part:
            made[key] = {name: as_json_schema(one) for name, one in part[key].items()}
        elif key in part:
            made[key] = as_json_schema(part[key])
    if "pattern" in part:
        made["pattern"] = f"^(?:{part['pattern']})$"
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def _referred(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from _referred(each)
    elif isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from _referred(each)


class Forms:
    """What one of Google's APIs takes and gives. ``permissions``: what each method needs."""

    def __init__(self, document: str, permissions: Mapping[str, str]) -> None:
        documents = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents"
        self._document = json.loads((documents / f"{document}.json").read_text())
        self._permissions = permissions
        self._validators: dict[str, Any] = {}
        self._methods = [
            (self._pattern(one), one)
            for one in self._every(self._document)
            if one["id"] in permissions
        ]
        assert len(self._methods) == len(permissions)

    def _every(self, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from part.get("methods", {}).values()
        for each in part.get("resources", {}).values():
            yield from self._every(each)

    def _pattern(self, method: dict[str, Any]) -> str:
        path = self._document["servicePath"] + method.get("flatPath", method["path"])
        return "/" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", path)

    def check(self, value: Any, name: str) -> None:
        if name not in self._validators:
            wanted, schemas = {name}, self._document["schemas"]
            while more := {one for each in wanted for one in _referred(schemas[each])} - wanted:
                wanted |= more
            kept = {one: as_json_schema(schemas[one]) for one in wanted}
            schema = {"$ref": f"#/$defs/{name}", "$defs": kept}
            self._validators[name] = jsonschema.Draft202012Validator(schema)
        self._validators[name].validate(value)

    def method(self, request: Request) -> tuple[dict[str, Any], str, dict[str, str]] | None:
        """The method that is asked for, the permission it needs, and what is in its path."""
        for pattern, method in self._methods:
            found = re.fullmatch(pattern, request.path)
            if found and method["httpMethod"] == request.method:
                unknown = set(request.query) - {
                    *method["parameters"],
                    *self._document["parameters"],
                }
                assert not unknown, f"there are no parameters {unknown}"
                return method, self._permissions[method["id"]], found.groupdict()
        return None


def problem(status: int, reason: str, message: str = "no") -> Response:
    """As the older APIs tell it."""
    errors = [{"domain": "global", "reason": reason, "message": message}]
    return Response(status, {"error": {"code": status, "message": message, "errors": errors}})


def status(status: int, word: str, message: str = "no", **headers: str) -> Response:
    """As the newer ones do: ``word`` is one of google.rpc.Code."""
    error = {"code": status, "message": message, "status": word}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"error": error}, named)


@functools.cache
def small_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)  # it is read more quickly


@dataclass
class Doorman:
    """``may``: what each account is allowed; ``tokens``: whose each is."""

    scope: ClassVar[str] = "https://www.googleapis.com/auth/cloud-platform"

    forms: Forms
    key: rsa.RSAPrivateKey = field(default_factory=small_key)
    may: dict[str, frozenset[str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""
    wrong: list[str] = field(default_factory=list)  # what was not in the form that it must have
    count: Any = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

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

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.path == "/token":
                return self._token(request)
            try:
                return self._api(request)
            except (AssertionError, jsonschema.ValidationError) as error:
                self.wrong.append(f"{request.method} {request.path}: {error}")
                return problem(500, "backendError")

    def done(self, method: str, path: dict[str, str], request: Request) -> Response:
        """What comes of a request that is in order."""
        raise NotImplementedError

    def may_not(self, permission: str) -> Response:
        told = f"Permission '{permission}' denied on resource (or it may not exist)."
        return status(403, "PERMISSION_DENIED", told)

    def whose(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.tokens.get(token)

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
        if claims["iss"] not in self.may or claims["scope"] != self.scope:
            told = "Invalid grant: account not found"
            return Response(400, {"error": "invalid_grant", "error_description": told})
        token = f"token-{next(self.count)}"
        self.tokens[token] = claims["iss"]
        return Response(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _api(self, request: Request) -> Response:
        who = self.whose(request)
        if who is None:
            return problem(401, "authError", "Invalid Credentials")
        asked = self.forms.method(request)
        if asked is None:
            return problem(404, "notFound")
        method, permission, path = asked
        if permission not in self.may[who]:
            return self.may_not(permission)
        if "request" in method:
            self.forms.check(request.json, method["request"]["$ref"])
        answer = self.done(method["id"], path, request)
        if answer.status == 200:
            self.forms.check(answer.body, method["response"]["$ref"])
        return answer
