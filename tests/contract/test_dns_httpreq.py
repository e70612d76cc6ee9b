"""lego's HTTP protocol, against a service as its documentation describes one."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from certd_providers.httpreq import HTTPReq

from certd.api import (
    ConfigError,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import CHECKS, FIRST, SECOND, Check, Trial, left_out, record
from certd.testing.dns import Account
from tests.fake_api import FakeAPI, Request, Response, text
from tests.http_contract import HTTPProviderContract

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
USER, PASSWORD = "certd", "pässwörd"


class Server(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = defaultdict(list)

    def answer(self, request: Request) -> Response:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return text(401, "Unauthorized\n", "text/plain")
        if request.headers.get("Content-Type") != "application/json" or request.method != "POST":
            return text(400, "bad request\n", "text/plain")
        body = request.json
        match body:
            case {"fqdn": str(fqdn), "value": str(value)} if fqdn.endswith(".") and len(body) == 2:
                name = fqdn.removesuffix(".")
            case {"domain": str(domain), "token": str(token), "keyAuth": str(key)} if (
                key.startswith(f"{token}.") and len(body) == 3
            ):
                digest = hashlib.sha256(key.encode()).digest()
                name = f"_acme-challenge.{domain}"
                value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            case _:
                return text(400, "unknown message\n", "text/plain")
        if not f".{name}".endswith(f".{ZONE}"):
            return text(404, f"no zone for {name}\n", "text/plain")
        there = self.values[name]
        match request.path:
            case "/acme/present" if value not in there:
                there.append(value)
            case "/acme/cleanup" if value in there:
                there.remove(value)
            case "/acme/present" | "/acme/cleanup":
                pass
            case _:
                return text(404, "404 page not found\n", "text/plain")
        return Response(200)


def reference(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


@pytest.fixture
def fake() -> Iterator[Server]:
    server = Server()
    with server.running():
        yield server


@pytest.fixture
def provider(fake: Server) -> HTTPReq:
    return HTTPReq(f"{fake.url}/acme/", USER, reference(PASSWORD))


@pytest.fixture
def account(fake: Server, provider: HTTPReq) -> Account:
    denied = replace(provider, password=reference("wrong password"))
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    secrets = (PASSWORD, basic, "wrong password")
    return Account(provider, ZONE, lambda name: fake.values[name], denied, secrets)


class TestHTTPReq(HTTPProviderContract):
    lenient = True  # its documentation says nothing of what is in an answer


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_in_raw_mode_the_service_makes_name_and_value(
    fake: Server, provider: HTTPReq, check: Check
) -> None:
    raw = replace(provider, mode="RAW")
    if why := left_out(raw, check):
        pytest.skip(why)
    check(Trial(raw, ZONE, NAME, lambda name: fake.values[name]))
    assert all("keyAuth" in request.json for request in fake.requests)


def test_in_raw_mode_a_key_authorization_is_in_no_error(fake: Server, provider: HTTPReq) -> None:
    asked = record(ZONE, NAME, FIRST)
    assert asked.challenge is not None
    key = asked.challenge.key_authorization.reveal()
    fake.fault(text(400, f"cannot take {key}"))
    with pytest.raises(ProviderError, match="cannot take") as refused:
        replace(provider, mode="RAW").add_txt(asked)
    assert key not in str(refused.value)
    assert key not in repr(asked)


def test_in_raw_mode_a_record_without_a_challenge_is_refused(
    fake: Server, provider: HTTPReq
) -> None:
    raw = replace(provider, mode="RAW")
    for change in (raw.add_txt, raw.remove_txt):
        with pytest.raises(ProviderError, match="of a challenge of dns-01"):
            change(TxtRecord(ZONE, NAME, FIRST, 60))
    assert not fake.requests


def test_there_is_one_other_mode() -> None:
    check = HTTPReq.__dataclass_fields__["mode"].metadata["check"]
    check("")
    check("RAW")
    with pytest.raises(ConfigError, match="no mode"):
        check("raw")


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        pytest.param(lambda url: HTTPReq(url), None, id="none"),
        pytest.param(lambda url: HTTPReq(url, "u", reference("p")), "Basic dTpw", id="both"),
        pytest.param(lambda url: HTTPReq(url, "u"), "Basic dTo=", id="no password"),
    ],
)
def test_authentication_is_sent_where_it_is_set(
    fake: Server, form: Callable[[str], HTTPReq], sent: str | None
) -> None:
    with pytest.raises(ProviderDenied, match="401"):
        form(f"{fake.url}/acme").add_txt(TxtRecord(ZONE, NAME, SECOND, 60))
    assert fake.requests[0].headers.get("Authorization") == sent


def test_a_redirection_is_not_followed(fake: Server, provider: HTTPReq) -> None:
    fake.fault(Response(307, headers={"Location": f"{fake.url}/elsewhere"}))
    with pytest.raises(ProviderError, match="HTTP 307"):
        provider.add_txt(TxtRecord(ZONE, NAME, FIRST, 60))
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "dns.example.com",
        "ftp://dns.example.com",
        "https://",
        "https://u:p@dns.example.com",
        "http://[",
        "https://dns.example.com/?a=b",
        "https://dns.example.com:0",
        "https://dns.example.com:99999",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"address|credential"):
        HTTPReq.__dataclass_fields__["url"].metadata["check"](url)
