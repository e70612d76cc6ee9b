"""A service of one's own that takes lego's HTTP requests: POST /present and POST /cleanup.

By default each has ``fqdn`` (with a final dot) and ``value``. In RAW mode it has ``domain``,
``token`` and ``keyAuth``, of which the service makes name and value itself; it is told of no CNAME
then. HTTP basic authentication, where the service wants one.

The service must keep the other values at a name, take the same request twice, and answer with 2xx
when it is done. Least permission: what the service lets this user write.

Source: https://go-acme.github.io/lego/dns/httpreq/
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import ClassVar

from certd.api import ConfigError, ProviderError, SecretReference, TxtRecord
from certd_providers.rest import API
from certd_providers.urls import check_url


def _check_mode(mode: str) -> None:
    if mode not in ("", "RAW"):
        raise ConfigError(f'there is no mode "{mode}"', "", 'write "RAW", or leave it out')


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
    mode: str = field(
        default="",
        metadata={
            "description": "RAW: the service gets domain, token and key authorization",
            "check": _check_mode,
            "example": "RAW",
        },
    )

    @property
    def wants_challenge(self) -> bool:
        return self.mode == "RAW"

    def add_txt(self, record: TxtRecord) -> None:
        self._post("/present", record)

    def remove_txt(self, record: TxtRecord) -> None:
        self._post("/cleanup", record)

    def _post(self, path: str, record: TxtRecord) -> None:
        body = _raw(record) if self.wants_challenge else _made(record)
        password = self.password.fetch().reveal() if self.password else ""
        basic = base64.b64encode(f"{self.username}:{password}".encode()).decode()
        with API(
            "httpreq",
            self.url,
            headers={"Authorization": f"Basic {basic}"} if self.username or password else {},
            permission="correct user and password, or let the service accept them for this name",
            secrets=(password, basic, body.get("keyAuth", "")),
        ) as api:
            api.call("POST", path, body=body)


def _made(record: TxtRecord) -> dict[str, str]:
    return {"fqdn": f"{record.name}.", "value": record.value}


def _raw(record: TxtRecord) -> dict[str, str]:
    made_of = record.challenge
    if made_of is None:
        why = "in RAW mode the service makes name and value itself, of a challenge of dns-01"
        todo = "leave mode out, if the service knows lego's other mode too"
        raise ProviderError(f"httpreq cannot write {record.name}", why, todo)
    return {
        "domain": made_of.domain,
        "token": made_of.token,
        "keyAuth": made_of.key_authorization.reveal(),
    }
