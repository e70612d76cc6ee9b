"""Google's Certificate Manager: certificates, and operations that take a few looks to end."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fake_google_account import PROJECT, Doorman, Forms, status
from tests.http_server import Request, Response

PAGE = 2
_IDS = "certificatemanager.projects.locations"
PERMISSIONS = {
    f"{_IDS}.certificates.create": "certificatemanager.certs.create",
    f"{_IDS}.certificates.get": "certificatemanager.certs.get",
    f"{_IDS}.certificates.list": "certificatemanager.certs.list",
    f"{_IDS}.certificates.patch": "certificatemanager.certs.update",
    f"{_IDS}.operations.get": "certificatemanager.operations.get",
    f"{_IDS}.operations.list": "certificatemanager.operations.list",
}
_IMMUTABLE = {"scope", "managed"}


@functools.cache
def forms() -> Forms:
    return Forms("certificatemanager.v1", PERMISSIONS)


@dataclass
class Certificates(Doorman):
    """``lasts``: so many looks at an operation find it under way."""

    there: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    lasts: int = 1
    fails: dict[str, Any] | None = None  # the error of the next operation
    most: int = 100
    _todo: dict[str, tuple[int, str, dict[str, Any], str]] = field(default_factory=dict)

    def managed(self, name: str, state: str, *domains: str, **more: Any) -> None:
        path = f"projects/{PROJECT}/locations/global/certificates/{name}"
        certificate = {"domains": list(domains), "state": state}
        self.there[path] = {"name": path, "managed": certificate, **more}

    def done(self, method: str, path: dict[str, str], request: Request) -> Response:
        verb = method.removeprefix(f"{_IDS}.")
        name = request.path.removeprefix("/v1/")
        if path["projectsId"] != PROJECT:
            return status(403, "PERMISSION_DENIED", "Permission denied on the project.")
        if verb == "certificates.list":
            found = [one for at, one in sorted(self.there.items()) if at.startswith(f"{name}/")]
            return self._page("certificates", found, request)
        if verb == "operations.list":
            return self._page("operations", list(self.operations.values()), request)
        if verb == "operations.get":
            return self._operation(name)
        if verb == "certificates.create":
            return self._create(name, request)
        if name not in self.there:
            return status(404, "NOT_FOUND", f"Resource '{name}' was not found")
        if verb == "certificates.get":
            return Response(200, self.there[name])
        return self._patch(name, request)

    def _page(self, key: str, found: list[dict[str, Any]], request: Request) -> Response:
        start = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {key: found[start : start + PAGE]}
        if start + PAGE < len(found):
            page["nextPageToken"] = str(start + PAGE)
        return Response(200, page)

    def _create(self, parent: str, request: Request) -> Response:
        wanted = request.query["certificateId"]
        name, body = f"{parent}/{wanted}", request.json
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", wanted):
            return status(400, "INVALID_ARGUMENT", "The certificate's ID is not valid.")
        if name in self.there or self._busy(name):
            return status(409, "ALREADY_EXISTS", f"Resource '{name}' already exists")
        if len(self.there) >= self.most:
            return status(429, "RESOURCE_EXHAUSTED", "Quota of certificates exceeded.")
        return self._begin(name, body, body, "create")

    def _patch(self, name: str, request: Request) -> Response:
        mask, body = request.query["updateMask"].split(","), request.json
        if self._busy(name):
            return status(409, "ABORTED", "Another operation is in progress.")
        if set(mask) & _IMMUTABLE or not set(mask) <= {"selfManaged", "labels", "description"}:
            return status(400, "INVALID_ARGUMENT", "A field of the mask cannot be updated.")
        if "selfManaged" in mask and "managed" in self.there[name]:
            return status(400, "INVALID_ARGUMENT", "The type of a certificate cannot change.")
        return self._begin(name, body, {part: body.get(part) for part in mask}, "update")

    def _busy(self, name: str) -> bool:
        return any(at == name for _, at, _, _ in self._todo.values())

    def _begin(
        self, name: str, body: dict[str, Any], change: dict[str, Any], verb: str
    ) -> Response:
        wrong = not_a_pair(body.get("selfManaged", {})) if "selfManaged" in change else ""
        if wrong:
            return status(400, "INVALID_ARGUMENT", wrong)
        for key, value in change.get("labels", {}).items():
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or value != value.lower():
                return status(400, "INVALID_ARGUMENT", "A label is not valid.")
        place = name.partition("/certificates/")[0]
        at = f"{place}/operations/operation-{next(self.count)}"
        self.operations[at] = {
            "name": at,
            "done": False,
            "metadata": {"target": name, "verb": verb},
        }
        self._todo[at] = (self.lasts, name, change, verb)
        return self._operation(at)

    def _operation(self, at: str) -> Response:
        if at not in self.operations:
            return status(404, "NOT_FOUND", f"Resource '{at}' was not found")
        if at in self._todo:
            left, name, change, verb = self._todo[at]
            self._todo[at] = (left - 1, name, change, verb)
            if left <= 0:
                del self._todo[at]
                self.operations[at] |= {"done": True, **self._end(name, change)}
        return Response(200, self.operations[at])

    def end(self) -> None:
        """All that is under way ends now."""
        for at in list(self._todo):
            _, name, change, _ = self._todo.pop(at)
            self.operations[at] |= {"done": True, **self._end(name, change)}

    def _end(self, name: str, change: dict[str, Any]) -> dict[str, Any]:
        if self.fails is not None:
            error, self.fails = self.fails, None
            return {"error": error}
        pair = change.pop("selfManaged", None)
        now = {**self.there.get(name, {"name": name}), **change}
        if pair is not None:
            now |= {"selfManaged": {}, "pemCertificate": pair["pemCertificate"]}
            self.keys[name] = pair["pemPrivateKey"]
        self.there[name] = now
        return {"response": now}


def not_a_pair(pair: dict[str, str]) -> str:
    try:
        leaf, *_ = x509.load_pem_x509_certificates(pair["pemCertificate"].encode())
        key = load_pem_private_key(pair["pemPrivateKey"].encode(), None)
    except (KeyError, ValueError):
        return "The certificate or the key cannot be read."
    if leaf.public_key() != key.public_key():
        return "The private key does not belong to the certificate."
    return ""
