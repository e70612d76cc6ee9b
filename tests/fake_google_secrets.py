"""Google's Secret Manager: secrets, their versions and aliases."""

from __future__ import annotations

import base64
import functools
import re
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

from tests.fake_google_account import PROJECT, Doorman, Forms, status
from tests.http_server import Request, Response

PAGE = 2
_SECRETS = "secretmanager.projects.secrets"
PERMISSIONS = {
    f"{_SECRETS}.create": "secretmanager.secrets.create",
    f"{_SECRETS}.get": "secretmanager.secrets.get",
    f"{_SECRETS}.patch": "secretmanager.secrets.update",
    f"{_SECRETS}.addVersion": "secretmanager.versions.add",
    f"{_SECRETS}.versions.access": "secretmanager.versions.access",
    f"{_SECRETS}.versions.list": "secretmanager.versions.list",
    f"{_SECRETS}.versions.disable": "secretmanager.versions.disable",
    f"{_SECRETS}.versions.destroy": "secretmanager.versions.destroy",
}


@functools.cache
def forms() -> Forms:
    return Forms("secretmanager.v1", PERMISSIONS)


@dataclass
class Secrets(Doorman):
    """``late``: so many looks at the latest version find the one before. ``delayed``: secrets have
    a ``versionDestroyTtl``.
    """

    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    late: int = 0
    delayed: bool = False
    _late: int = 0

    def done(self, method: str, path: dict[str, str], request: Request) -> Response:
        verb, name = method.removeprefix(f"{_SECRETS}."), f"projects/{PROJECT}/secrets/"
        if path["projectsId"] != PROJECT:
            return status(403, "PERMISSION_DENIED", "Permission denied on the project.")
        if verb == "create":
            return self._create(name + request.query["secretId"], request.json)
        name += path["secretsId"]
        if name not in self.secrets:
            return status(404, "NOT_FOUND", f"Secret [{name}] not found.")
        if verb == "get":
            return Response(200, self.secrets[name])
        if verb == "patch":
            return self._patch(name, request)
        if verb == "addVersion":
            return self._add(name, request.json["payload"])
        if verb == "versions.list":
            return self._list(name, request)
        at = self._version(name, path["versionsId"])
        if at not in self.versions:
            return status(404, "NOT_FOUND", f"Secret Version [{at}] not found.")
        if verb == "versions.access":
            return self._access(at)
        return self._end(at, verb, request.json)

    def numbers(self, name: str, *states: str) -> list[str]:
        """The versions of a secret in any of these states."""
        prefix = f"projects/{PROJECT}/secrets/{name}/versions/"
        return [
            at.removeprefix(prefix)
            for at, one in self.versions.items()
            if at.startswith(prefix) and one["state"] in states
        ]

    def _create(self, name: str, body: dict[str, Any]) -> Response:
        if not re.fullmatch("[A-Za-z0-9_-]{1,255}", name.rpartition("/")[2]):
            return status(400, "INVALID_ARGUMENT", "The ID of the secret is not valid.")
        if name in self.secrets:
            return status(409, "ALREADY_EXISTS", f"Secret [{name}] already exists.")
        if "replication" not in body:
            return status(400, "INVALID_ARGUMENT", "secret.replication must be provided.")
        self.secrets[name] = {**body, "name": name, "etag": f'"{next(self.count)}"'}
        return Response(200, self.secrets[name])

    def _patch(self, name: str, request: Request) -> Response:
        body, mask = request.json, request.query["updateMask"]
        if mask != "versionAliases":
            return status(400, "INVALID_ARGUMENT", "A field of the mask cannot be updated.")
        if body.get("etag", self.secrets[name]["etag"]) != self.secrets[name]["etag"]:
            return status(400, "FAILED_PRECONDITION", "The etag provided does not match.")
        for number in body["versionAliases"].values():
            if f"{name}/versions/{number}" not in self.versions:
                return status(400, "INVALID_ARGUMENT", "The alias is of no version.")
        change = {"versionAliases": body["versionAliases"], "etag": f'"{next(self.count)}"'}
        self.secrets[name] = {**self.secrets[name], **change}
        return Response(200, self.secrets[name])

    def _add(self, name: str, payload: dict[str, str]) -> Response:
        data = base64.b64decode(payload["data"], validate=True)
        if int(payload.get("dataCrc32c", google_crc32c.value(data))) != google_crc32c.value(data):
            return status(400, "INVALID_ARGUMENT", "The CRC32C checksum does not match.")
        if not 0 < len(data) <= 65536:
            return status(400, "INVALID_ARGUMENT", "The payload is empty or too large.")
        number = 1 + sum(at.startswith(f"{name}/versions/") for at in self.versions)
        at = f"{name}/versions/{number}"
        self.data[at] = data
        self.versions[at] = {
            "name": at,
            "state": "ENABLED",
            "etag": f'"{next(self.count)}"',
            "clientSpecifiedPayloadChecksum": "dataCrc32c" in payload,
        }
        self._late = self.late
        return Response(200, self.versions[at])

    def _list(self, name: str, request: Request) -> Response:
        found = [one for at, one in self.versions.items() if at.startswith(f"{name}/versions/")]
        found.reverse()
        start = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {"versions": found[start : start + PAGE]}
        if start + PAGE < len(found):
            page["nextPageToken"] = str(start + PAGE)
        return Response(200, page)

    def _version(self, name: str, version: str) -> str:
        if version != "latest":
            number = self.secrets[name].get("versionAliases", {}).get(version, version)
            return f"{name}/versions/{number}"
        found = [at for at in self.versions if at.startswith(f"{name}/versions/")]
        self._late -= 1
        return ["", *found][-1 if self._late < 0 else -2] if found else ""

    def _access(self, at: str) -> Response:
        if self.versions[at]["state"] != "ENABLED":
            told = f"Secret Version [{at}] is in {self.versions[at]['state']} state."
            return status(400, "FAILED_PRECONDITION", told)
        data = self.data[at]
        payload = {
            "data": base64.b64encode(data).decode(),
            "dataCrc32c": str(google_crc32c.value(data)),
        }
        return Response(200, {"name": at, "payload": payload})

    def _end(self, at: str, verb: str, body: dict[str, str]) -> Response:
        one = self.versions[at]
        if body.get("etag", one["etag"]) != one["etag"] or one["state"] == "DESTROYED":
            return status(400, "FAILED_PRECONDITION", "It has changed meanwhile.")
        if verb == "versions.destroy" and self.delayed:
            then = {"state": "DISABLED", "scheduledDestroyTime": "2026-12-24T00:00:00Z"}
            self.versions[at] = {**one, **then, "etag": f'"{next(self.count)}"'}
            return Response(200, self.versions[at])
        ended = {"versions.disable": "DISABLED", "versions.destroy": "DESTROYED"}[verb]
        if ended == "DESTROYED":
            del self.data[at]
        self.versions[at] = {**one, "state": ended, "etag": f'"{next(self.count)}"'}
        return Response(200, self.versions[at])
