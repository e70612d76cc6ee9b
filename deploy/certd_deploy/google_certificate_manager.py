"""Self-managed certificates in Google Cloud's Certificate Manager, each always in its place.

A new version takes the place of the one before, so maps, map entries and proxies that refer to it
stay as they are. Both creating and patching begin an operation, which is waited for; one that an
earlier try began and did not see the end of is waited for before anything is sent again.

Certificates: https://docs.cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.certificates
Operations: https://docs.cloud.google.com/certificate-manager/docs/reference/certificate-manager/rest/v1/projects.locations.operations
Permissions: https://docs.cloud.google.com/certificate-manager/docs/access-control
Quotas: https://docs.cloud.google.com/certificate-manager/docs/quotas
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from certd_providers.googleaccount import GoogleAPI
from certd_providers.urls import ADDRESS

from certd.api import (
    Bundle,
    ConfigError,
    Managed,
    TargetBusy,
    TargetError,
    failpoint,
    fingerprint,
    plain,
)
from certd_deploy.googlecloud import ACCOUNT, GoogleTarget, check_labels, instant, pages, until
from certd_deploy.naming import check_pattern, fitted

SCOPES = ("DEFAULT", "EDGE_CACHE", "ALL_REGIONS", "CLIENT_AUTH")
OURS = {"managed-by": "certd"}
CONFLICT = 409  # there already, or another operation is at work on it
DENIED = 7
# Of google.rpc.Code: deadline exceeded, resource exhausted, aborted, internal, unavailable.
PASSING = frozenset((4, 8, 10, 13, 14))


def check_certificate(pattern: str) -> None:
    says = "it has up to 63 lower-case letters, digits and hyphens, and {name}"
    check_pattern(pattern, "[a-z]([a-z0-9-]*[a-z0-9])?", 63, says)


def check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise ConfigError(f'there is no scope "{scope}"', "", f"write one of {', '.join(SCOPES)}")


@dataclass(frozen=True, slots=True)
class GoogleCertificateManager(GoogleTarget):
    """Settings of a ``type = "google_certificate_manager"`` target."""

    service: ClassVar[str] = "Google Certificate Manager"
    credential: ClassVar[str] = (
        f'{ACCOUNT}the role "Certificate Manager Editor", or one of your own with '
        "certificatemanager.certs.get, ….create, ….update and ….list, and "
        "certificatemanager.operations.get and ….list"
    )

    certificate: str = field(
        default="certd-{name}",
        metadata={
            "description": "certificate to create or to replace; {name} is that of certd's",
            "check": check_certificate,
        },
    )
    location: str = field(
        default="global", metadata={"description": 'location: "global", or a region'}
    )
    scope: str = field(
        default="DEFAULT",
        metadata={"description": "scope of a new one, which stays as it is", "check": check_scope},
    )
    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "labels besides managed-by = certd and those that are there",
            "check": check_labels,
        },
    )
    url: str = field(default="https://certificatemanager.googleapis.com", metadata=ADDRESS)

    def deploy(self, bundle: Bundle) -> None:
        with self.cloud(self.url, bundle) as (api, project):
            parent = self._parent(project)
            path = self._path(project, bundle.name)
            found = self._found(api, path)
            if _is(found, bundle):
                return
            if self._ended(api, parent, path):
                found = self._found(api, path)
                if _is(found, bundle):
                    return
            begun = self._begin(api, parent, path, found, bundle)
            failpoint("google_certificate_manager: certificate sent")
            self._wait(api, begun)
            failpoint("google_certificate_manager: operation ended")

    def serving(self, name: str) -> str:
        with self.cloud(self.url) as (api, project):
            return _fingerprint(self._found(api, self._path(project, name)))

    def place(self, name: str) -> str:
        return self.in_project(f"{self.location}/{self._name(name)}")

    def managed(self) -> Collection[Managed]:
        """Those that Google has issued, and renews."""
        with self.cloud(self.url) as (api, project):
            listed = pages(api, f"{self._parent(project)}/certificates", "certificates")
            return [_managed(one) for one in listed if "managed" in one]

    def _name(self, lineage: str) -> str:
        return fitted(self.certificate, lineage, 63)

    def _parent(self, project: str) -> str:
        return f"{project}/locations/{quote(self.location, '')}"

    def _path(self, project: str, lineage: str) -> str:
        return f"{self._parent(project)}/certificates/{self._name(lineage)}"

    @staticmethod
    def _found(api: GoogleAPI, path: str) -> dict[str, Any] | None:
        answer = api.call("GET", path, accept={404})
        if answer.status == 404:
            return None
        found: dict[str, Any] = answer.json
        return found if found["name"] else None

    def _begin(
        self,
        api: GoogleAPI,
        parent: str,
        path: str,
        found: dict[str, Any] | None,
        bundle: Bundle,
    ) -> dict[str, Any]:
        pair = {"pemCertificate": bundle.fullchain_pem, "pemPrivateKey": bundle.key_pem.reveal()}
        there = (found or {}).get("labels", {})
        labels = {**there, **OURS, **self.labels}
        body: dict[str, Any] = {"selfManaged": pair, "labels": labels}
        if found is None:
            body["scope"] = self.scope
            how = ("POST", f"{parent}/certificates", {"certificateId": self._name(bundle.name)})
        else:
            # Of a self-managed one, all is for input only: nothing of it need be told.
            if found.keys() & {"managed", "managedIdentity"}:
                what = f"{self.place(bundle.name)} is not a certificate of certd's"
                raise TargetError(what, "Google issues and renews it", "write another certificate")
            how = ("PATCH", path, {"updateMask": "selfManaged,labels"})
        method, to, params = how
        answer = api.call(method, to, params=params, body=body, accept={CONFLICT})
        if answer.status == CONFLICT:
            raise api.busy(f"HTTP 409: {self.place(bundle.name)} is just being changed")
        begun: dict[str, Any] = answer.json
        return begun

    def _ended(self, api: GoogleAPI, parent: str, path: str) -> bool:
        """Wait for what an earlier try began; whether there was anything."""
        # The project may stand there by its number.
        target = path.partition("/locations/")[2]
        begun = [
            one
            for one in pages(api, f"{parent}/operations", "operations")
            if not one.get("done")
            and one.get("metadata", {}).get("target", "").endswith(f"/locations/{target}")
        ]
        for one in begun:
            self._wait(api, one, failing=False)
        return bool(begun)

    def _wait(self, api: GoogleAPI, operation: dict[str, Any], *, failing: bool = True) -> None:
        def look() -> dict[str, Any] | None:
            nonlocal operation
            if not operation.get("done"):
                operation = api.call("GET", f"/{self.version}/{operation['name']}").json
            return operation if operation.get("done") else None

        error = until(look, f"a change in {self.service}").get("error")
        if error and failing:
            raise self._failed(error)

    def _failed(self, error: dict[str, Any]) -> TargetError:
        why = plain(str(error.get("message") or f"code {error.get('code')}"))
        if error.get("code") in PASSING:
            todo = "it is tried again by itself"
            return TargetBusy(f"{self.service} is not able to now", why, todo)
        todo = self.credential if error.get("code") == DENIED else "correct what it names"
        return TargetError(f"{self.service} refuses the certificate", why, todo)


def _is(found: dict[str, Any] | None, bundle: Bundle) -> bool:
    return found is not None and _fingerprint(found) == bundle.certificate.fingerprint


def _fingerprint(found: dict[str, Any] | None) -> str:
    try:
        return fingerprint((found or {}).get("pemCertificate", ""))
    except ValueError:  # one of Google's that has not been issued yet
        return ""


def _managed(one: dict[str, Any]) -> Managed:
    names = one.get("sanDnsnames") or one["managed"].get("domains", [])
    status = one["managed"].get("state", "STATE_UNSPECIFIED")
    return Managed(one["name"], tuple(names), instant(one.get("expireTime")), status)
