"""SSL certificates of Google Compute Engine, and the target HTTPS proxies that serve them.

Such a certificate never changes. Each version is another one, named for its fingerprint, so that
the same is never sent twice; then the proxies are changed to have it in the place of the one
before, on condition that nobody has changed them meanwhile (their fingerprint, HTTP 412). What
nobody uses any more is removed after that; what somebody still uses, some later time.

Certificates: https://docs.cloud.google.com/compute/docs/reference/rest/v1/sslCertificates
Proxies: https://docs.cloud.google.com/compute/docs/reference/rest/v1/targetHttpsProxies/patch
Regional ones: https://docs.cloud.google.com/compute/docs/reference/rest/v1/regionTargetHttpsProxies
Limits: https://docs.cloud.google.com/load-balancing/docs/quotas#ssl_certificates
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from certd_providers.googleaccount import GoogleAPI, reasons
from certd_providers.urls import ADDRESS

from certd.api import (
    Bundle,
    ConfigError,
    Managed,
    ProviderError,
    TargetBusy,
    TargetError,
    failpoint,
    fingerprint,
    plain,
)
from certd_deploy.googlecloud import ACCOUNT, GoogleTarget, instant, pages, until
from certd_deploy.naming import check_pattern, fitted

log = logging.getLogger(__name__)

MOST = 63  # characters of a name
DIGITS = 16  # of the fingerprint, at the end of a name
ROOM = MOST - DIGITS - 1
IN_USE = frozenset(("resourceInUseByAnotherResource", "resourceNotReady"))
NOT_READY = "resourceNotReady"
# Of an operation, which has its own words for what is told in HTTP elsewhere.
PASSING = re.compile("QUOTA|RATE_LIMIT|EXHAUSTED|INTERNAL|UNAVAILABLE|NOT_READY|TIMEOUT|CONDITION")
THERE, OVERTAKEN = 409, 412


def check_certificate(pattern: str) -> None:
    says = f"it has up to {ROOM} lower-case letters, digits and hyphens, and {{name}}"
    check_pattern(pattern, "[a-z]([a-z0-9-]*[a-z0-9])?", ROOM, says)


def check_proxies(proxies: Collection[str]) -> None:
    for proxy in proxies:
        if not re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", proxy, re.ASCII):
            why = "a name has lower-case letters, digits and hyphens"
            todo = "write what `gcloud compute target-https-proxies list` shows"
            raise ConfigError(f'"{proxy}" is no target HTTPS proxy', why, todo)
    if not proxies:
        raise ConfigError("there is no proxy", "one at least serves it", "write its name")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleCompute(GoogleTarget):
    """Settings of a ``type = "google_compute"`` target."""

    service: ClassVar[str] = "Google Compute Engine"
    version: ClassVar[str] = "compute/v1"
    credential: ClassVar[str] = (
        f'{ACCOUNT}the role "Compute Load Balancer Admin", or one of your own with '
        "compute.sslCertificates.create, ….get, ….list and ….delete, "
        "compute.targetHttpsProxies.get, ….update and ….setSslCertificates, and "
        "compute.globalOperations.get; of a region compute.regionSslCertificates, "
        "compute.regionTargetHttpsProxies and compute.regionOperations in their place"
    )

    proxies: tuple[str, ...] = field(
        metadata={
            "description": "target HTTPS proxies that serve it",
            "check": check_proxies,
            "missing": "what no proxy has nobody serves",
            "example": '["web-proxy"]',
        }
    )
    region: str | None = field(
        default=None, metadata={"description": "region of the proxies; without it they are global"}
    )
    certificate: str = field(
        default="certd-{name}",
        metadata={
            "description": "how the names of its versions begin; {name} is that of certd's",
            "check": check_certificate,
        },
    )
    url: str = field(default="https://compute.googleapis.com", metadata=ADDRESS)

    def deploy(self, bundle: Bundle) -> None:
        with self.cloud(self.url, bundle) as (api, project):
            place = Place(api, self._where(project), self)
            lineage = self._lineage(bundle.name)
            link = place.uploaded(bundle, f"{lineage}-{bundle.certificate.fingerprint[:DIGITS]}")
            changed = [place.attach(proxy, link, lineage) for proxy in self.proxies]
            if any(changed):
                place.tidy(lineage, _name(link))
                failpoint("google_compute: old certificates removed")

    def serving(self, name: str) -> str:
        """Where proxies have several, that which was made first: the others are to follow."""
        with self.cloud(self.url) as (api, project):
            place, lineage = Place(api, self._where(project), self), self._lineage(name)
            names = [place.of(proxy, lineage) for proxy in self.proxies]
            found = [place.certificate(one) for one in dict.fromkeys(names) if one is not None]
            there = [one for one in found if one is not None]
            if None in names or not there:
                return ""
            first = min(there, key=lambda one: datetime.fromisoformat(one["creationTimestamp"]))
            return fingerprint(first["certificate"])

    def place(self, name: str) -> str:
        where = self.region or "global"
        return self.in_project(f"{where}/{','.join(sorted(self.proxies))}/{self._lineage(name)}")

    def managed(self) -> Collection[Managed]:
        """Those that Google has issued, and renews."""
        with self.cloud(self.url) as (api, project):
            listed = pages(api, f"{self._where(project)}/sslCertificates", "items")
            return [_managed(one) for one in listed if one.get("type") == "MANAGED"]

    def _lineage(self, name: str) -> str:
        return fitted(self.certificate, name, ROOM)

    def _where(self, project: str) -> str:
        return f"{project}/regions/{quote(self.region, '')}" if self.region else f"{project}/global"


class Place:
    """What is global, or in one region, as one operation sees it."""

    def __init__(self, api: GoogleAPI, where: str, target: GoogleCompute) -> None:
        self._api = api
        self._where = where
        self._target = target

    def certificate(self, name: str) -> dict[str, Any] | None:
        return self._get(f"sslCertificates/{name}")

    def uploaded(self, bundle: Bundle, name: str) -> str:
        """The link of the certificate of this name, which is there from now on."""
        found = self.certificate(name)
        if found is None:
            body = {
                "name": name,
                "description": f"certificate {bundle.name}, kept by certd",
                "certificate": bundle.fullchain_pem,
                "privateKey": bundle.key_pem.reveal(),
            }
            path = f"{self._where}/sslCertificates"
            answer = self._api.call("POST", path, body=body, accept={THERE})
            if answer.status == THERE:
                raise self._api.busy(f"HTTP 409: {name} is just being made")
            failpoint("google_compute: certificate sent")
            self._wait(answer.json)
            found = until(lambda: self.certificate(name), f"the making of {name}")
        if fingerprint(found["certificate"]) != bundle.certificate.fingerprint:
            why, todo = "another certificate has its name", "remove that, or write certificate"
            raise TargetError(f"{name} cannot be made", why, todo)
        return str(found["selfLink"])

    def of(self, proxy: str, lineage: str) -> str | None:
        """Which certificate of the lineage a proxy has."""
        links = self._proxy(proxy).get("sslCertificates", [])
        return next((_name(link) for link in links if _ours(link, lineage)), None)

    def attach(self, proxy: str, link: str, lineage: str) -> bool:
        """Have the proxy serve it; whether it did not before.

        Certificates that share a proxy are often renewed at once: who was slower looks again.
        """
        changed = until(lambda: self._changed(proxy, link, lineage), f"a change of {proxy}")
        if changed:
            failpoint("google_compute: proxy changed")
            self._wait(changed)
        return bool(changed)

    def _changed(self, proxy: str, link: str, lineage: str) -> dict[str, Any] | None:
        """The operation that changes it, empty if there is nothing to change; None: not now."""
        found = self._proxy(proxy)
        if found.get("certificateMap"):
            why = "it has a certificate map, and so ignores certificates of its own"
            todo = "deploy with google_certificate_manager, or take the map away"
            raise TargetError(f"the proxy {proxy} would not serve it", why, todo)
        before = found.get("sslCertificates", [])
        after = list(_replaced(before, link, lineage))
        if [*map(_name, after)] == [*map(_name, before)]:
            return {}
        path = f"{self._where}/targetHttpsProxies/{proxy}"
        body = {"sslCertificates": after, "fingerprint": found["fingerprint"]}
        answer = self._api.call("PATCH", path, body=body, accept={400, OVERTAKEN})
        if answer.status == OVERTAKEN or NOT_READY in reasons(answer):
            return None
        if answer.status == 400:
            raise self._api.failure(answer)
        operation: dict[str, Any] = answer.json
        return operation if operation["name"] else None

    def tidy(self, lineage: str, kept: str) -> None:
        """Remove the certificates of the lineage that nobody uses. That is no reason to fail."""
        path = f"{self._where}/sslCertificates"
        try:
            for one in list(pages(self._api, path, "items", filter=f"name eq {lineage}-.*")):
                if _ours(one["name"], lineage) and one["name"] != kept:
                    self._remove(f"{path}/{one['name']}")
        except ProviderError as error:
            log.warning("%s: old certificates %s-… stay for now: %s", path, lineage, error)

    def _remove(self, path: str) -> None:
        answer = self._api.call("DELETE", path, accept={400, 404})
        if answer.status == 400 and not reasons(answer) & IN_USE:
            raise self._api.failure(answer)

    def _proxy(self, name: str) -> dict[str, Any]:
        found = self._get(f"targetHttpsProxies/{name}")
        if found is None:
            why = f"there is none at {self._where.rpartition('/projects/')[2]}"
            todo = "correct proxies, region or project"
            raise TargetError(f"there is no target HTTPS proxy {name}", why, todo)
        return found

    def _get(self, path: str) -> dict[str, Any] | None:
        answer = self._api.call("GET", f"{self._where}/{path}", accept={404})
        if answer.status == 404:
            return None
        found: dict[str, Any] = answer.json
        return found if found["name"] else None

    def _wait(self, operation: dict[str, Any]) -> None:
        path = f"{self._where}/operations/{operation['name']}"

        def look() -> dict[str, Any] | None:
            nonlocal operation
            if operation["status"] != "DONE":
                operation = self._api.call("GET", path).json
            return operation if operation["status"] == "DONE" else None

        if "error" not in until(look, f"a change in {self._target.service}"):
            return
        errors = operation["error"]["errors"]
        why = plain("; ".join(f"{one['code']}: {one.get('message', '')}" for one in errors))
        if all(PASSING.search(one["code"]) for one in errors):
            todo = "it is tried again by itself; a quota is raised by whoever owns the project"
            raise TargetBusy(f"{self._target.service} is not able to now", why, todo)
        raise TargetError(
            f"{self._target.service} refuses the change", why, "correct what it names"
        )


def _replaced(links: Collection[str], link: str, lineage: str) -> Iterator[str]:
    """Others stay, in their order: a client that names no host is served the first."""
    done = False
    for one in links:
        if not _ours(one, lineage):
            yield one
        elif not done:
            done = True
            yield link
    if not done:
        yield link


def _ours(link: str, lineage: str) -> bool:
    return re.fullmatch(f"{re.escape(lineage)}-[0-9a-f]{{{DIGITS}}}", _name(link)) is not None


def _name(link: str) -> str:
    return link.rpartition("/")[2]


def _managed(one: dict[str, Any]) -> Managed:
    state = one.get("managed", {})
    names = one.get("subjectAlternativeNames") or state.get("domains", [])
    return Managed(
        one.get("selfLink", one["name"]),
        tuple(names),
        instant(one.get("expireTime")),
        state.get("status", "MANAGED_CERTIFICATE_STATUS_UNSPECIFIED"),
    )
