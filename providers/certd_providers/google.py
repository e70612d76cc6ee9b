"""Google Cloud DNS: TXT records in the public managed zones of one project.

A change takes whole record sets away and puts whole ones in, at once or not at all. What it takes
away must be exactly what is there (HTTP 412), and what it puts in must not be there (409): so
nobody's value is lost, and who was slower tries again.

Changes: https://docs.cloud.google.com/dns/docs/reference/rest/v1/changes
Errors: https://docs.cloud.google.com/dns/docs/error-messages
Permissions: https://docs.cloud.google.com/dns/docs/access-control
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, ClassVar
from urllib.parse import quote

import requests

from certd.api import (
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
    plain,
)
from certd_providers.rest import ADDRESS, API, READ, Answer
from certd_providers.tokens import Token, Tokens
from certd_providers.txt import quoted, unquoted

NAME = "Google Cloud DNS"
SCOPE = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
OVERTAKEN = frozenset((409, 412))
# With these reasons a 403 is not about the credential.
BUSY = frozenset(("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded"))


@dataclass(frozen=True, slots=True)
class Google:
    """Google Cloud DNS: the public managed zones of one project."""

    credential: ClassVar[str] = (
        "a key (JSON) of a service account, or what Google's library finds by itself (the "
        'machine\'s service account, gcloud), with the role "DNS Administrator" on the zones and '
        '"DNS Reader" on the project, or a role of your own with dns.managedZones.list, '
        "dns.changes.create, dns.resourceRecordSets.list, ….create, ….update and ….delete"
    )

    service_account: SecretReference | None = field(
        default=None,
        metadata={"description": "the service account's key, as JSON; else the machine's account"},
    )
    project: str | None = field(
        default=None,
        metadata={"description": "project with the zones, if it is not the credential's own"},
    )
    managed_zone: str | None = field(
        default=None,
        metadata={"description": "the only zone to write to, by its ID; else found by DNS name"},
    )
    url: str = field(default="https://dns.googleapis.com", metadata=ADDRESS)
    _tokens: Tokens = field(init=False, repr=False, compare=False, default_factory=Tokens)

    def add_txt(self, record: TxtRecord) -> None:
        with self._project() as whole:
            zone, project = self._zone(whole, record.zone), whole.within(record.zone)
            found = project.record_set(zone, record.name)
            values = found["rrdatas"] if found else []
            if record.value in map(unquoted, values):
                return
            new = {"name": f"{record.name}.", "type": "TXT", "ttl": record.ttl, **(found or {})}
            project.replace(zone, found, {**new, "rrdatas": [*values, quoted(record.value)]})

    def remove_txt(self, record: TxtRecord) -> None:
        with self._project() as whole:
            zone, project = self._zone(whole, record.zone), whole.within(record.zone)
            found = project.record_set(zone, record.name)
            values = found["rrdatas"] if found else []
            others = [value for value in values if unquoted(value) != record.value]
            if found and others != values:
                project.replace(zone, found, {**found, "rrdatas": others} if others else None)

    def zones(self) -> Collection[str]:
        with self._project() as project:
            if self.managed_zone is not None:
                found = [project.call("GET", f"/managedZones/{quote(self.managed_zone, '')}")]
            else:
                found = list(project.zones())
            return {zone["dnsName"].removesuffix(".").lower() for zone in found}

    def _zone(self, project: Project, name: str) -> str:
        if self.managed_zone is not None:
            return self.managed_zone
        ids = sorted(zone["name"] for zone in project.zones(dnsName=f"{name}."))
        if len(ids) == 1:
            return str(ids[0])
        if not ids:
            why = "the project has no public managed zone of that name"
            todo = "create it, or correct project, or which provider the name belongs to"
            raise ProviderError(f"{NAME} does not have the zone {name}", why, todo)
        why = f"of {', '.join(ids)} the world sees one"
        todo = "compare their name servers with the delegation, and write managed_zone"
        raise ProviderError(f"{NAME} has {len(ids)} public zones {name}", why, todo)

    @contextlib.contextmanager
    def _project(self) -> Iterator[Project]:
        secret = self.service_account.fetch().reveal() if self.service_account else ""
        kept = self._tokens.get(secret, lambda: self._token(secret))
        token, project = kept.text.reveal(), self.project or kept.project
        if not project:
            why = "the credential does not tell which"
            raise ProviderError(f"{NAME} needs a project", why, "write project")
        with API(
            NAME,
            f"{self.url.rstrip('/')}/dns/v1/projects/{quote(project, '')}",
            headers={"Authorization": f"Bearer {token}"},
            permission=self.credential,
            explain=lambda body: str(body["error"]["message"]),
            secrets=[token],
        ) as api:
            yield Project(api, self._tokens)

    def _token(self, secret: str) -> Token:
        """Another access token, of this service account or the machine's."""
        try:
            import google.auth
            from google.auth import exceptions
            from google.auth.transport.requests import Request
        except ImportError:
            why, todo = "it is not installed", "pip install 'certd[google]'"
            raise ProviderError("google needs google-auth", why, todo) from None
        try:
            with requests.Session() as session:
                ask: Any = functools.partial(Request(session), timeout=READ)
                if secret:
                    found, project = _service_account(secret)
                else:
                    found, project = google.auth.default(scopes=[SCOPE], request=ask)
                found.refresh(ask)
                expiry = found.expiry  # without a zone, in UTC
                until = expiry.replace(tzinfo=UTC).timestamp() if expiry else 0.0
                return Token(Secret(str(found.token)), until, project)
        except exceptions.DefaultCredentialsError as error:
            # The machine may just be starting: nobody has refused anything yet.
            what = f"there is no credential for {NAME}"
            raise ProviderError(what, plain(str(error)), self.credential) from None
        except exceptions.GoogleAuthError as error:
            # What does not reach the machine's own metadata server is wrapped.
            lost = any(
                isinstance(one, exceptions.TransportError) for one in (error, error.__cause__)
            )
            if lost or getattr(error, "retryable", False):
                why = f"no access token ({type(error).__name__})"
                todo = "it is tried again by itself"
                raise ProviderBusy(f"{NAME} is not able to now", why, todo) from None
            why = plain(str(error.args[0]) if error.args else type(error).__name__)
            raise ProviderDenied(f"{NAME} refuses the credential", why, self.credential) from None


class Project:
    """The API as one operation sees it."""

    def __init__(self, api: API, tokens: Tokens, zone: str = "") -> None:
        """``zone`` is the DNS name of the only one that is to be written to."""
        self._api = api
        self._tokens = tokens
        self._writing = zone

    def within(self, zone: str) -> Project:
        return Project(self._api, self._tokens, zone)

    def call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self._api.call(method, path, accept=OVERTAKEN | {401, 403}, **how)
        if answer.status == 401 and self._tokens.refused():
            raise self._api.busy("HTTP 401: it wants another access token")
        if answer.status in OVERTAKEN:
            raise self._api.busy(f"HTTP {answer.status}: somebody else has changed the record set")
        if answer.status == 403 and _reasons(answer) & BUSY:
            raise self._api.busy(f"HTTP 403: {', '.join(_reasons(answer))}")
        if answer.status in (401, 403):
            # Roles can be given for a single zone; the API is enabled for all, or not at all.
            self._api.zone = self._writing if _reasons(answer) == {"forbidden"} else ""
            raise self._api.failure(answer)
        found: dict[str, Any] = answer.json
        return found

    def zones(self, **which: str) -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"nextPageToken": None}
        while "nextPageToken" in page:
            params = {**which, "pageToken": page["nextPageToken"]}
            page = self.call("GET", "/managedZones", params=params)
            for zone in page.get("managedZones", []):
                if zone.get("visibility", "public") == "public":
                    yield zone

    def record_set(self, zone: str, name: str) -> dict[str, Any] | None:
        path = f"/managedZones/{quote(zone, '')}/rrsets"
        params = {"name": f"{name}.", "type": "TXT"}
        for found in self.call("GET", path, params=params).get("rrsets", []):
            if "routingPolicy" in found:
                why = "its record set has a routing policy"
                raise ProviderError(f"{name} cannot be written", why, "make it a simple one")
            return {key: found[key] for key in ("name", "type", "ttl", "rrdatas")}
        return None

    def replace(self, zone: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        body = {"deletions": [old] if old else [], "additions": [new] if new else []}
        self.call("POST", f"/managedZones/{quote(zone, '')}/changes", body=body)


def _service_account(secret: str) -> tuple[Any, str | None]:
    from google.oauth2 import service_account

    try:
        info = json.loads(secret)
        load: Any = service_account.Credentials.from_service_account_info
        found = load(info, scopes=[SCOPE])
    except (ValueError, TypeError, AttributeError):  # their texts may hold what was read
        why, todo = "it is no service account's key", "download it as JSON, and write where it is"
        raise ProviderError(f"{NAME} cannot be asked", why, todo) from None
    return found, info.get("project_id")


def _reasons(answer: Answer) -> set[str]:
    try:
        return {str(error["reason"]) for error in answer.json["error"]["errors"]}
    except (KeyError, TypeError):
        return set()
