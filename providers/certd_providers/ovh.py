"""OVHcloud, and Kimsufi and So you Start, which have the same API.

The credential is three keys, made at https://eu.api.ovh.com/createToken/ (ca.api.ovh.com and so on
for the other endpoints), valid without an end. Least permission: GET /domain/zone, and of each zone
GET and POST /domain/zone/ZONE/*, DELETE /domain/zone/ZONE/record/*.

Each request is signed, with a time near that of the API, which is asked for it first. Records are
single ones with a number; what was changed is served after a refresh of the zone only, which
may be what a call before did not come to: it is asked for each time.

Sources: https://help.ovhcloud.com/csm/en-api-getting-started-ovhcloud-api (signature),
https://eu.api.ovh.com/console/?section=%2Fdomain (paths), https://github.com/ovh/python-ovh
(endpoints, errorCode).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import ConfigError, ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API, Answer
from certd_providers.urls import check_url

ENDPOINTS = {
    "ovh-eu": "https://eu.api.ovh.com/1.0",
    "ovh-ca": "https://ca.api.ovh.com/1.0",
    "ovh-us": "https://api.us.ovhcloud.com/1.0",
    "kimsufi-eu": "https://eu.api.kimsufi.com/1.0",
    "kimsufi-ca": "https://ca.api.kimsufi.com/1.0",
    "soyoustart-eu": "https://eu.api.soyoustart.com/1.0",
    "soyoustart-ca": "https://ca.api.soyoustart.com/1.0",
}
SHORTEST_TTL = 60  # seconds
LONGEST = 255  # characters: how the API divides longer ones is not documented


def _check_endpoint(name: str) -> None:
    if name not in ENDPOINTS:
        raise ConfigError(
            f'there is no endpoint "{name}"', "", f"write one of {', '.join(ENDPOINTS)}"
        )


def _setting(description: str, **more: Any) -> Mapping[str, Any]:
    return {"description": description, "missing": "createToken shows it", **more}


@dataclass(frozen=True, slots=True)
class OVH:
    """Zones at OVHcloud, by three keys."""

    credential: ClassVar[str] = (
        "made at https://eu.api.ovh.com/createToken/ with the rights GET /domain/zone, "
        "GET and POST /domain/zone/ZONE/*, DELETE /domain/zone/ZONE/record/* of each zone"
    )

    application_key: str = field(metadata=_setting("application key (AK): which application it is"))
    application_secret: SecretReference = field(
        metadata=_setting("application secret (AS): it signs")
    )
    consumer_key: SecretReference = field(
        metadata=_setting("consumer key (CK): for whom, with which rights")
    )
    endpoint: str = field(
        default="ovh-eu",
        metadata=_setting(
            f"where the account is: {', '.join(ENDPOINTS)}",
            check=_check_endpoint,
            example="ovh-ca",
        ),
    )
    url: str | None = field(
        default=None,
        metadata=_setting("address of the API, if not the endpoint's", check=check_url),
    )

    def zones(self) -> Collection[str]:
        with self._signed() as signed:
            return signed.listed("/domain/zone", str)

    def add_txt(self, record: TxtRecord) -> None:
        if len(record.value) > LONGEST:
            why = f"it has {len(record.value)} characters, and the API takes {LONGEST}"
            raise ProviderError("ovh does not take the value", why, "publish a shorter one")
        with self._signed() as signed:
            if not _same(signed, record):
                body = {
                    "fieldType": "TXT",
                    "subDomain": record.label,
                    "target": record.value,
                    "ttl": max(record.ttl, SHORTEST_TTL),
                }
                signed.call("POST", f"/domain/zone/{record.zone}/record", body)
            signed.call("POST", f"/domain/zone/{record.zone}/refresh")

    def remove_txt(self, record: TxtRecord) -> None:
        with self._signed() as signed:
            for path in _same(signed, record):
                signed.call("DELETE", path, missing=True)
            signed.call("POST", f"/domain/zone/{record.zone}/refresh")

    @contextlib.contextmanager
    def _signed(self) -> Iterator[_Signed]:
        secret = self.application_secret.fetch().reveal()
        consumer = self.consumer_key.fetch().reveal()
        url = (self.url or ENDPOINTS[self.endpoint]).rstrip("/")
        headers = {"X-Ovh-Application": self.application_key, "X-Ovh-Consumer": consumer}
        with API(
            "ovh",
            url,
            headers=headers,
            permission=f"correct the keys, or make new ones: {self.credential}",
            secrets=(secret, consumer),
        ) as api:
            yield _Signed(api, url, f"{secret}+{consumer}")


class _Signed:
    """Requests as the API wants them, in one operation."""

    def __init__(self, api: API, url: str, keys: str) -> None:
        self._api = api
        self._url = url
        self._keys = keys
        answer = api.get("/auth/time")
        if type(answer.json) is not int:
            raise api.failure(answer, "/auth/time answers no time")
        self._ahead = answer.json - int(time.time())  # seconds

    def call(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Answer:
        data = "" if body is None else json.dumps(body)
        now = str(int(time.time()) + self._ahead)
        text = "+".join((self._keys, method, self._url + path, data, now))
        headers = {
            "Content-Type": "application/json",
            "X-Ovh-Timestamp": now,
            "X-Ovh-Signature": "$1$"
            + hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
        }
        accept = (400, 404) if missing else (400,)
        answer = self._api.call(method, path, data=data or None, headers=headers, accept=accept)
        if answer.status != 400:
            return answer
        code = answer.json.get("errorCode") if isinstance(answer.json, dict) else None
        if code == "INVALID_SIGNATURE":
            raise self._api.denied(f"{code}: the application secret or the consumer key is wrong")
        if code == "QUERY_TIME_OUT":
            raise self._api.busy(f"{code}: the request was on its way for too long")
        raise self._api.failure(answer)

    def listed(self, path: str, kind: type) -> list[Any]:
        answer = self.call("GET", path)
        found = answer.json
        if not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
            raise self._api.failure(answer, f"{path.partition('?')[0]} answers no list")
        return found


def _same(signed: _Signed, record: TxtRecord) -> list[str]:
    """The paths of the records with this name and value, however somebody has quoted it."""
    records = f"/domain/zone/{record.zone}/record"
    found = []
    for number in signed.listed(f"{records}?fieldType=TXT&subDomain={record.label}", int):
        one = signed.call("GET", f"{records}/{number}", missing=True).json
        if not isinstance(one, dict) or one.get("subDomain") != record.label:
            continue  # gone meanwhile, or the filter of an empty name let another through
        if one.get("target") in (record.value, f'"{record.value}"'):
            found.append(f"{records}/{number}")
    return found
