"""Secrets of a Kubernetes API server, strict, with the field management of server-side apply.

After https://kubernetes.io/docs/reference/using-api/server-side-apply/: whoever applies owns the
fields that were in what was applied; a field with another value that somebody else owns is a
conflict; one that the last apply had and this has not is removed, unless another owns it too.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.dnsb_http import Request, Response

TOKEN = "token-of-the-service-account"
Path = tuple[str, ...]


def status(code: int, reason: str, message: str, **details: Any) -> Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return Response(
        code, {**body, "message": message, "reason": reason, "details": details, "code": code}
    )


def fields(body: Mapping[str, Any]) -> dict[Path, Any]:
    """The leaves that have owners, each with its value."""
    metadata = body.get("metadata") or {}
    found: dict[Path, Any] = {("type",): body["type"]} if "type" in body else {}
    parts: dict[Path, Any] = {
        ("data",): body.get("data"),
        ("metadata", "labels"): metadata.get("labels"),
        ("metadata", "annotations"): metadata.get("annotations"),
    }
    for path, values in parts.items():
        found |= {(*path, key): value for key, value in (values or {}).items()}
    return found


def put(body: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        body = body.setdefault(key, {})
    if value is None:
        body.pop(path[-1], None)
    else:
        body[path[-1]] = value


def shown(path: Path) -> str:
    return "".join(f".{key}" for key in path)


@dataclass
class KubeAPI:
    """One namespace, ``web``. ``patches`` counts what was applied."""

    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, dict[str, set[Path]]] = field(default_factory=dict)
    patches: int = 0
    verbs: frozenset[str] = frozenset({"get", "create", "patch"})

    def answer(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token != TOKEN:  # the client writes it both ways
            return status(401, "Unauthorized", "Unauthorized")
        found = re.fullmatch(r"/api/v1/namespaces/([^/]+)/secrets/([^/]+)", request.path)
        if found is None:
            return status(404, "NotFound", "the server could not find the requested resource")
        namespace, name = found.groups()
        verb = {"GET": "get", "PATCH": "patch"}.get(request.method, request.method)
        if verb not in self.verbs:
            said = f'secrets "{name}" is forbidden: User "certd" cannot {verb} resource "secrets"'
            return status(403, "Forbidden", said)
        if verb == "get":
            there = self.secrets.get(name) if namespace == "web" else None
            missing = status(404, "NotFound", f'secrets "{name}" not found', name=name)
            return missing if there is None else Response(200, there)
        if namespace != "web":
            return status(404, "NotFound", f'namespaces "{namespace}" not found')
        return self._apply(name, request)

    def edit(self, manager: str, name: str, changes: Mapping[Path, Any]) -> None:
        """What an update does: it takes the fields that it changes, from whoever has them."""
        for path, value in changes.items():
            put(self.secrets[name], path, value)
            for owned in self.owners[name].values():
                owned.discard(path)
            self.owners[name].setdefault(manager, set()).add(path)

    def _apply(self, name: str, request: Request) -> Response:
        manager = request.query.get("fieldManager")
        if request.headers["content-type"] != "application/apply-patch+yaml":
            return status(415, "UnsupportedMediaType", "the body of the request was in an unknown")
        if not manager:
            return status(
                422, "Invalid", "fieldManager: Required value: is required for apply patch"
            )
        if request.query.get("force", "false").lower() != "false":
            return status(400, "BadRequest", "a test that forces is wrong")
        body = request.json
        if (body["apiVersion"], body["kind"], body["metadata"]["name"]) != ("v1", "Secret", name):
            return status(400, "BadRequest", "the object does not match the URL")
        if "managedFields" in body["metadata"]:
            return status(400, "BadRequest", "metadata.managedFields must be nil")
        there = self.secrets.get(name)
        if there is None and "create" not in self.verbs:
            return status(403, "Forbidden", f'secrets "{name}" is forbidden: cannot create')
        if there is not None and body["type"] != there["type"]:
            said = f'Secret "{name}" is invalid: type: Invalid value: field is immutable'
            return status(422, "Invalid", said)
        owners, wanted = self.owners.setdefault(name, {}), fields(body)
        if conflict := self._conflict(fields(there or {}), owners, manager, wanted):
            return conflict
        new: dict[str, Any] = copy.deepcopy(there or {"metadata": {"name": name}})
        gone = owners.get(manager, set()) - wanted.keys()
        others = set[Path]().union(*(owned for who, owned in owners.items() if who != manager))
        for path, value in (dict.fromkeys(gone - others) | wanted).items():
            put(new, path, value)
        if invalid := self._invalid(name, new):
            return invalid
        owners[manager] = set(wanted)
        self.patches += 1
        self.secrets[name] = {"apiVersion": "v1", "kind": "Secret", **new}
        return Response(200 if there else 201, self.secrets[name])

    def _conflict(
        self,
        values: Mapping[Path, Any],
        owners: Mapping[str, set[Path]],
        manager: str,
        wanted: Mapping[Path, Any],
    ) -> Response | None:
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{other}" using v1',
                "field": shown(path),
            }
            for other, owned in owners.items()
            for path in sorted(owned & wanted.keys())
            if other != manager and values.get(path) != wanted[path]
        ]
        if not causes:
            return None
        plural = "s" if len(causes) > 1 else ""
        each = "\n".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        said = f"Apply failed with {len(causes)} conflict{plural}: {each}"
        return status(409, "Conflict", said, causes=causes)

    def _invalid(self, name: str, body: Mapping[str, Any]) -> Response | None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name):
            return status(422, "Invalid", f'Secret "{name}" is invalid: metadata.name')
        try:
            for text in body["data"].values():
                base64.b64decode(text, validate=True)
        except ValueError:
            return status(400, "BadRequest", "illegal base64 data at input byte 0")
        missing = {"tls.crt", "tls.key"} - body["data"].keys()
        if body["type"] == "kubernetes.io/tls" and missing:
            said = f"data[{sorted(missing)[0]}]: Required value"
            return status(422, "Invalid", f'Secret "{name}" is invalid: {said}')
        for key, value in (body["metadata"].get("annotations") or {}).items():
            if not isinstance(value, str) or not re.fullmatch(r"([a-z0-9.-]+/)?[\w.-]{1,63}", key):
                return status(422, "Invalid", f'Secret "{name}" is invalid: annotations {key}')
        return None


def kubeconfig(url: str, roots: bytes, token: str = TOKEN) -> str:
    """JSON is YAML."""
    authority = base64.b64encode(roots).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": url, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "main",
        }
    )
