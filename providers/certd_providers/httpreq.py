"""A service of one's own that takes lego's HTTP requests: POST /present and POST /cleanup.

Each has ``fqdn`` (with a final dot) and ``value``, which is lego's default mode; not its RAW mode,
in which a service is given the key authorization and makes them itself. HTTP basic authentication,
where the service wants one.

The service must keep the other values at a name, take the same request twice, and answer with 2xx
when it is done. Least permission: what the service lets this user write.

Source: https://go-acme.github.io/lego/dns/httpreq/
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import ClassVar

from certd.api import SecretReference, TxtRecord
from certd_providers.rest import API, check_url


@dataclass(frozen=True, slots=True)
class HTTPReq:
    """Whatever a service of one's own writes to, by lego's HTTP protocol."""

    credential: ClassVar[str] = "what the service asks for: a user and a password, or none"

    url: str = field(
        metadata={
            "description": "address of the service, to which /present and /cleanup are added",
            "check": check_url,
            "example": "https://dns.example.com/acme",
            "missing": "it is a service of one's own",
        }
    )
    username: str = field(default="", metadata={"description": "user (HTTP basic authentication)"})
    password: SecretReference | None = field(
        default=None, metadata={"description": "password (HTTP basic authentication)"}
    )

    def add_txt(self, record: TxtRecord) -> None:
        self._post("/present", record)

    def remove_txt(self, record: TxtRecord) -> None:
        self._post("/cleanup", record)

    def _post(self, path: str, record: TxtRecord) -> None:
        body = {"fqdn": f"{record.name}.", "value": record.value}
        password = self.password.fetch().reveal() if self.password else ""
        basic = base64.b64encode(f"{self.username}:{password}".encode()).decode()
        with API(
            "httpreq",
            self.url,
            headers={"Authorization": f"Basic {basic}"} if self.username or password else {},
            permission="correct user and password, or let the service accept them for this name",
            secrets=(password, basic),
        ) as api:
            api.call("POST", path, body=body)
