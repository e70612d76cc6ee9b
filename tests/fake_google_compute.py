"""Google Compute Engine: SSL certificates, the proxies that have them, and operations."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from tests.fake_google_account import PROJECT, Doorman, Forms, problem
from tests.fake_google_certificates import not_a_pair
from tests.http_server import Request, Response

PAGE = 2
API = "https://www.googleapis.com/compute/v1"
# The verbs of the API, and of IAM.
_CERTIFICATES = {"insert": "create", "get": "get", "list": "list", "delete": "delete"}
_PROXIES = {"get": "get", "patch": "update"}


def _permissions() -> dict[str, str]:
    made: dict[str, str] = {}
    for kind in ("sslCertificates", "regionSslCertificates"):
        made |= {f"compute.{kind}.{at}": f"compute.{kind}.{to}" for at, to in _CERTIFICATES.items()}
    for kind in ("targetHttpsProxies", "regionTargetHttpsProxies"):
        made |= {f"compute.{kind}.{at}": f"compute.{kind}.{to}" for at, to in _PROXIES.items()}
    for kind in ("globalOperations", "regionOperations"):
        made[f"compute.{kind}.get"] = f"compute.{kind}.get"
    return made


@functools.cache
def forms() -> Forms:
    return Forms("compute.v1", _permissions())


@dataclass
class Compute(Doorman):
    """What there is stands by its path; ``lasts``: so many looks find an operation under way."""

    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    proxies: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # certificates that others use
    lasts: int = 1
    fails: dict[str, Any] | None = None  # the error of the next operation
    most: int = 100
    _left: dict[str, int] = field(default_factory=dict)

    def proxy(self, name: str, *links: str, where: str = "global", **more: Any) -> None:
        path = f"projects/{PROJECT}/{where}/targetHttpsProxies/{name}"
        self.proxies[path] = {"name": name, "sslCertificates": list(links), **more}

    def links(self, name: str, where: str = "global") -> list[str]:
        """What a proxy has, by name."""
        found = self.proxies[f"projects/{PROJECT}/{where}/targetHttpsProxies/{name}"]
        return [link.rpartition("/")[2] for link in found["sslCertificates"]]

    def may_not(self, permission: str) -> Response:
        return problem(403, "forbidden", f"Required '{permission}' permission for 'projects/x'")

    def done(self, method: str, path: dict[str, str], request: Request) -> Response:
        _, kind, verb = method.split(".")
        at = request.path.removeprefix("/compute/v1/")
        if path["project"] != PROJECT:
            return problem(404, "notFound", "The project was not found")
        if kind.endswith("Operations"):
            return self._operation(at)
        there = self.certificates if "ertificates" in kind else self.proxies
        if verb == "list":
            return self._list(at, request)
        if verb == "insert":
            return self._insert(at, request.json)
        if at not in there:
            return problem(404, "notFound", f"The resource '{at}' was not found")
        if verb == "get":
            one = there[at]
            return Response(200, one if there is self.certificates else {**one, **_mark(one)})
        return self._delete(at) if verb == "delete" else self._patch(at, request.json)

    def _list(self, at: str, request: Request) -> Response:
        pattern = re.fullmatch("name eq (.*)", request.query.get("filter", "name eq .*"))
        assert pattern, "no filter of this form"
        found = [
            one
            for path, one in sorted(self.certificates.items())
            if path.startswith(f"{at}/") and re.fullmatch(pattern[1], one["name"])
        ]
        start = int(request.query.get("pageToken", "0"))
        page: dict[str, Any] = {"items": found[start : start + PAGE]}
        if start + PAGE < len(found):
            page["nextPageToken"] = str(start + PAGE)
        return Response(200, page if found else {})

    def _insert(self, parent: str, body: dict[str, Any]) -> Response:
        at = f"{parent}/{body['name']}"
        if at in self.certificates:
            return problem(409, "alreadyExists", f"The resource '{at}' already exists")
        if len(self.certificates) >= self.most:
            told = f"Quota 'SSL_CERTIFICATES' exceeded.  Limit: {self.most}.0 globally."
            return problem(403, "quotaExceeded", told)
        pair = {"pemCertificate": body["certificate"], "pemPrivateKey": body["privateKey"]}
        if wrong := not_a_pair(pair):
            return problem(400, "invalid", wrong)
        if len(x509.load_pem_x509_certificates(body["certificate"].encode())) > 5:
            return problem(400, "invalid", "The chain is too long.")
        answer = self._begin(at, "insert")
        if "error" not in answer.body:
            made = datetime.now(UTC) + timedelta(seconds=next(self.count))
            self.keys[at] = body.pop("privateKey")
            kind = {"type": "SELF_MANAGED", "creationTimestamp": made.isoformat("T")}
            self.certificates[at] = {**body, **kind, "selfLink": f"{API}/{at}"}
        return answer

    def _patch(self, at: str, body: dict[str, Any]) -> Response:
        if body.get("fingerprint") != _mark(self.proxies[at])["fingerprint"]:
            return problem(412, "conditionNotMet", "Invalid fingerprint.")
        links = body["sslCertificates"]
        missing = [
            one
            for one in links
            if one.removeprefix(f"{API}/") not in {*self.certificates, *self.used}
        ]
        if not 1 <= len(links) <= 15 or len(set(links)) < len(links) or missing:
            return problem(400, "invalid", f"Invalid value for 'sslCertificates': {missing}")
        if any(("/regions/" in link) != ("/regions/" in at) for link in links):
            return problem(400, "invalid", "The certificates are of another region.")
        answer = self._begin(at, "patch")
        if "error" not in answer.body:
            self.proxies[at]["sslCertificates"] = links
        return answer

    def _delete(self, at: str) -> Response:
        link = f"{API}/{at}"
        if at in self.used or any(link in one["sslCertificates"] for one in self.proxies.values()):
            told = f"The ssl_certificate resource '{at}' is already being used by a proxy"
            return problem(400, "resourceInUseByAnotherResource", told)
        del self.certificates[at], self.keys[at]
        return self._begin(at, "delete")

    def _begin(self, target: str, kind: str) -> Response:
        where = target.rsplit("/", 2)[0]
        name = f"operation-{next(self.count)}"
        made: dict[str, Any] = {"name": name, "status": "PENDING", "operationType": kind}
        self.operations[f"{where}/operations/{name}"] = made
        self._left[name] = self.lasts
        if self.fails is not None:
            made, self.fails = {**made, "error": {"errors": [self.fails]}}, None
            self.operations[f"{where}/operations/{name}"] = made
        return Response(200, made)

    def _operation(self, at: str) -> Response:
        if at not in self.operations:
            return problem(404, "notFound", f"The resource '{at}' was not found")
        found = self.operations[at]
        self._left[found["name"]] -= 1
        if self._left[found["name"]] < 0:
            found["status"] = "DONE"
        return Response(200, found)


def _mark(proxy: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": hashlib.sha256(json.dumps(proxy).encode()).hexdigest()[:12]}
