"""Certificate and key as one secret in Google Cloud's Secret Manager, a version for each.

Whoever reads the version "latest" has the newest; or readers are given an alias, which is set when
the version is there, and can go back. What is there already is not sent again: the version that is
read is compared first. Payloads go both ways with their checksum (CRC-32C).

Versions: https://docs.cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions
Adding: https://docs.cloud.google.com/secret-manager/docs/add-secret-version
Aliases: https://docs.cloud.google.com/secret-manager/docs/assign-alias-to-secret-version
Integrity: https://docs.cloud.google.com/secret-manager/docs/data-integrity
Permissions: https://docs.cloud.google.com/secret-manager/docs/access-control
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from certd_providers.googleaccount import GoogleAPI
from certd_providers.urls import ADDRESS

from certd.api import Bundle, ConfigError, Pair, ProviderError, TargetError, failpoint, fingerprint
from certd_deploy.crc32c import crc32c
from certd_deploy.googlecloud import ACCOUNT, GoogleTarget, check_labels, pages, until
from certd_deploy.naming import check_pattern, fitted
from certd_deploy.pairtext import check_format, read, written

log = logging.getLogger(__name__)

LATEST = "latest"
OURS = {"managed-by": "certd"}
MOST = 65536  # bytes of a payload
# What becomes of old versions: the verb, and which states it is for.
OLD = {"keep": (), "disable": ("ENABLED",), "destroy": ("ENABLED", "DISABLED")}
THERE, OVERTAKEN = 409, frozenset((409, 412))


def check_secret(pattern: str) -> None:
    says = "it has up to 255 letters, digits, hyphens and underscores, and {name}"
    check_pattern(pattern, "[A-Za-z0-9_-]+", 255, says)


def check_alias(alias: str) -> None:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,62}", alias, re.ASCII) or alias in (LATEST, "NEW"):
        why = 'it begins with a letter, has up to 63 letters, digits, "_", "-", and is not "latest"'
        raise ConfigError(f'"{alias}" is no alias', why, "correct it")


def check_old(old: str) -> None:
    if old not in OLD:
        raise ConfigError(f'"{old}" cannot be done', "", f"write one of {', '.join(OLD)}")


class Version(NamedTuple):
    number: str
    text: str


@dataclass(frozen=True, slots=True)
class GoogleSecretManager(GoogleTarget):
    """Settings of a ``type = "google_secret_manager"`` target: a secret for each certificate."""

    service: ClassVar[str] = "Google Secret Manager"
    credential: ClassVar[str] = (
        f'{ACCOUNT}the roles "Secret Manager Secret Accessor" and "Secret Manager Secret Version '
        'Manager" on the secret, or one of your own with secretmanager.versions.access, ….add, '
        "….list, ….disable and ….destroy (the last three with old only); "
        "secretmanager.secrets.create where it makes the secret, ….get with alias or old, "
        "….update with alias"
    )

    secret: str = field(
        default="certd-{name}",
        metadata={
            "description": "name of the secret; {name} is that of the certificate",
            "check": check_secret,
        },
    )
    format: str = field(
        default="combined",
        metadata={
            "description": 'what is in it, as PEM: "combined" (leaf, chain, key) or "key-first"; '
            'or "json" with certificate, chain, fullchain and private_key',
            "check": check_format,
        },
    )
    alias: str | None = field(
        default=None,
        metadata={
            "description": "alias of the version in place, for readers",
            "check": check_alias,
        },
    )
    old: str = field(
        default="keep",
        metadata={
            "description": 'what becomes of old versions: "keep", "disable" or "destroy"; the one '
            "before stays",
            "check": check_old,
        },
    )
    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "labels of a new secret besides managed-by = certd",
            "check": check_labels,
        },
    )
    url: str = field(default="https://secretmanager.googleapis.com", metadata=ADDRESS)

    def deploy(self, bundle: Bundle) -> None:
        text = written(bundle, self.format)
        if len(text) > MOST:
            why = f"it would have {len(text)} bytes of {MOST}"
            raise TargetError("the secret is too large", why, "order a shorter chain")
        with self.cloud(self.url, bundle, _encoded(text)) as (api, project):
            path = f"{project}/secrets/{self._name(bundle.name)}"
            there = _access(api, path, self.alias or LATEST)
            if there is not None and there.text == text:
                return
            newest = _access(api, path, LATEST) if self.alias else there
            if newest is None or newest.text != text:
                newest = _add(api, path, text, lambda: self._create(api, project, bundle.name))
            if self.alias:
                _point(api, path, self.alias, newest.number)
                failpoint("google_secret_manager: alias set")
            if self.old != "keep":
                self._tidy(api, path, newest.number)
                failpoint("google_secret_manager: old versions done with")

    def serving(self, name: str) -> str:
        there = self._found(name)
        pair = read(there.text) if there else None
        try:
            return fingerprint(pair.fullchain_pem) if pair else ""
        except ValueError:
            return ""

    def recover(self, name: str) -> Pair | None:
        there = self._found(name)
        pair = read(there.text) if there else None
        if there is not None and pair is None:
            why, todo = "it is neither PEM nor JSON with a pair", "write another secret"
            raise TargetError(f"what is in {self.place(name)} cannot be read", why, todo)
        return pair

    def place(self, name: str) -> str:
        at = f"@{self.alias}" if self.alias else ""
        return self.in_project(f"secret {self._name(name)}{at}")

    def _name(self, lineage: str) -> str:
        return fitted(self.secret, lineage, 255, "A-Za-z0-9_-")

    def _found(self, name: str) -> Version | None:
        with self.cloud(self.url) as (api, project):
            return _access(api, f"{project}/secrets/{self._name(name)}", self.alias or LATEST)

    def _create(self, api: GoogleAPI, project: str, lineage: str) -> None:
        body = {"replication": {"automatic": {}}, "labels": {**OURS, **self.labels}}
        params = {"secretId": self._name(lineage)}
        api.call("POST", f"{project}/secrets", params=params, body=body, accept={THERE})
        failpoint("google_secret_manager: secret made")

    def _tidy(self, api: GoogleAPI, path: str, current: str) -> None:
        """Disable or destroy old versions. That is no reason to fail."""
        try:
            aliases = api.call("GET", path).json.get("versionAliases", {}).values()
            versions = list(pages(api, f"{path}/versions", "versions"))
            others = [one for one in versions if _number(one) not in (current, *aliases)]
            others.sort(key=lambda one: int(_number(one)), reverse=True)
            # With a delay (versionDestroyTtl) it is "DISABLED" until then, and not to come back.
            alive = [
                one
                for one in others
                if one["state"] != "DESTROYED" and "scheduledDestroyTime" not in one
            ]
            for one in alive[1:]:  # the newest of them stays, to go back to
                if one["state"] in OLD[self.old]:
                    to = f"{path}/versions/{_number(one)}:{self.old}"
                    api.call("POST", to, body={"etag": one["etag"]})
        except ProviderError as error:
            log.warning("%s: old versions stay for now: %s", path, error)


def _access(api: GoogleAPI, path: str, version: str) -> Version | None:
    """None: there is none, or nobody may read it any more."""
    answer = api.call("GET", f"{path}/versions/{version}:access", accept={400, 404})
    if answer.status == 404 or (
        answer.status == 400 and answer.json["error"].get("status") == "FAILED_PRECONDITION"
    ):
        return None
    if answer.status == 400:
        raise api.failure(answer)
    payload = answer.json["payload"]
    data = base64.b64decode(payload.get("data", ""))
    if int(payload["dataCrc32c"]) != crc32c(data):
        raise api.busy("what it sent was damaged on its way")
    return Version(_number(answer.json), data.decode("utf-8", "replace"))


def _add(api: GoogleAPI, path: str, text: str, make: Callable[[], None]) -> Version:
    """``make``: the secret. It is often there without a version, made beforehand for its roles:
    then nobody need be allowed to make one.
    """
    payload = {"data": _encoded(text), "dataCrc32c": str(crc32c(text.encode()))}
    how: dict[str, Any] = {"body": {"payload": payload}}
    answer = api.call("POST", f"{path}:addVersion", accept={404}, **how)
    if answer.status == 404:
        make()
        answer = api.call("POST", f"{path}:addVersion", **how)
    made = answer.json
    if not made.get("clientSpecifiedPayloadChecksum"):
        raise api.busy("it did not check what was sent")
    failpoint("google_secret_manager: version added")
    number = _number(made)

    def look() -> Version | None:
        found = _access(api, path, LATEST)
        return found if found is not None and int(found.number) >= int(number) else None

    # By its number it is there at once; what "latest" is takes a moment to get about.
    until(look, f"version {number} of the secret becoming the latest")
    return Version(number, text)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _point(api: GoogleAPI, path: str, alias: str, number: str) -> None:
    """The other aliases stay; somebody else's change at the same time is not overwritten."""
    found = api.call("GET", path).json
    aliases = {**found.get("versionAliases", {}), alias: number}
    body = {"versionAliases": aliases, "etag": found["etag"]}
    params = {"updateMask": "versionAliases"}
    answer = api.call("PATCH", path, params=params, body=body, accept={400, *OVERTAKEN})
    overtaken = answer.status == 400 and "etag" in answer.text.lower()
    if answer.status in OVERTAKEN or overtaken:
        raise api.busy(f"HTTP {answer.status}: somebody else is changing the secret")
    if answer.status == 400:
        raise api.failure(answer)


def _number(version: dict[str, Any]) -> str:
    return str(version["name"]).rpartition("/")[2]
