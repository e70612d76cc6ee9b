"""Azure DNS by Microsoft's own library, against a server that behaves as its reference says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certd_providers.azure import Azure

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.references import reference
from certd.testing.dns import Account
from tests.fake_api import FakeAPI
from tests.fake_azure import GROUP, SUBSCRIPTION
from tests.fake_azure import Azure as Fake
from tests.fake_azure_account import TENANT, problem
from tests.http_contract import AccessTokenContract
from tests.http_server import Answer, Lost, Request, Response, own_tls, serving

ZONE = "example.com"
RECORD = TxtRecord(ZONE, f"_acme-challenge.{ZONE}", FIRST, 60)
WHERE = (ZONE, "_acme-challenge")
# What Azure.credential says, and nothing else.
LEAST = ("dnsZones/read", "dnsZones/TXT/read", "dnsZones/TXT/write", "dnsZones/TXT/delete")


class Service(FakeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.azure = Fake({ZONE: "Public"})
        self.azure.application("certd", "open sesame", *LEAST)
        self.login: Answer | None = None

    def concerns(self, request: Request) -> bool:
        return request.path.startswith("/subscriptions/")

    def answer(self, request: Request) -> Response:
        login = self.login if not self.concerns(request) else None
        return login(request) if login else self.azure(request)

    def provider(self, **settings: Any) -> Azure:
        given: dict[str, Any] = {
            "tenant_id": TENANT,
            "client_id": "certd",
            "client_secret": secret("open sesame"),
            "url": self.azure.url,
            "authority": self.azure.url,
        }
        return Azure(SUBSCRIPTION, GROUP, **{**given, **settings})


def secret(text: str) -> SecretReference:
    return reference(text, Path("/"))


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[Service]]]:
    """Its address, what makes it trusted, and who answers there just now."""
    tls, trusted = own_tls(tmp_path_factory.mktemp("azure"))
    at_work: list[Service] = []
    with serving(lambda request: at_work[-1](request), tls) as url:
        yield url, trusted, at_work


@pytest.fixture
def service(_server: tuple[str, Path, list[Service]], monkeypatch: pytest.MonkeyPatch) -> Service:
    url, trusted, at_work = _server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    at_work.append(Service())
    at_work[-1].azure.url = url
    return at_work[-1]


class TestAzure(AccessTokenContract):
    @pytest.fixture
    def tokens(self, service: Service) -> dict[str, str]:
        return service.azure.tokens

    @pytest.fixture
    def fake(self, service: Service) -> Service:
        return service

    @pytest.fixture
    def account(self, service: Service) -> Account:
        service.azure.application("nobody", "knock knock")
        denied = service.provider(client_id="nobody", client_secret=secret("knock knock"))

        def values(name: str) -> list[str]:
            return service.azure.values(ZONE, name.removesuffix(ZONE).rstrip(".") or "@")

        secrets = ("open sesame", "open+sesame", "knock knock", "token-1", "token-2")
        return Account(service.provider(), ZONE, values, denied, secrets)


def test_a_record_set_keeps_what_else_it_has(service: Service) -> None:
    theirs = {
        "TTL": 300,
        "TXTRecords": [{"value": ["of somebody ", "else"]}],
        "metadata": {"owner": "somebody else"},
    }
    service.azure.sets[WHERE] = {"name": WHERE[1], "etag": "etag-0", "properties": theirs}
    service.provider().add_txt(RECORD)
    properties = service.azure.sets[WHERE]["properties"]
    assert properties["TXTRecords"] == [*theirs["TXTRecords"], {"value": [FIRST]}]  # type: ignore[misc]
    assert (properties["TTL"], properties["metadata"]) == (300, theirs["metadata"])
    service.provider().remove_txt(RECORD)
    assert service.azure.sets[WHERE]["properties"] == theirs


def test_the_zone_itself_has_a_name(service: Service) -> None:
    service.provider().add_txt(TxtRecord(ZONE, ZONE, FIRST, 60))
    assert service.azure.values(ZONE, "@") == [FIRST]


def test_all_public_zones_are_known(service: Service) -> None:
    service.azure.zones |= {"a.test": "Public", "b.test": "Public", "inside.test": "Private"}
    assert service.provider().zones() == {ZONE, "a.test", "b.test"}


@pytest.mark.parametrize("there", [False, True], ids=["a new set", "a set that is there"])
def test_nothing_is_lost_if_somebody_writes_at_the_same_time(service: Service, there: bool) -> None:
    if there:
        service.provider().add_txt(TxtRecord(ZONE, RECORD.name, "before", 60))

    def overtake(request: Request) -> Response:
        if request.method == "PUT":
            service.before = None
            service.provider().add_txt(TxtRecord(ZONE, RECORD.name, SECOND, 60))
        return service.azure(request)

    service.before = overtake
    with pytest.raises(ProviderBusy, match="412"):
        service.provider().add_txt(RECORD)
    service.provider().add_txt(RECORD)
    expected = [*(["before"] if there else []), SECOND, FIRST]
    assert service.azure.values(*WHERE) == expected


def test_nothing_is_lost_if_somebody_adds_to_what_is_deleted(service: Service) -> None:
    service.provider().add_txt(RECORD)

    def overtake(request: Request) -> Response:
        if request.method == "DELETE":
            service.before = None
            service.provider().add_txt(TxtRecord(ZONE, RECORD.name, SECOND, 60))
        return service.azure(request)

    service.before = overtake
    with pytest.raises(ProviderBusy, match="412"):
        service.provider().remove_txt(RECORD)
    service.provider().remove_txt(RECORD)
    assert service.azure.values(*WHERE) == [SECOND]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(problem(409, "Conflict"), ProviderBusy, id="another operation"),
        pytest.param(problem(400, "BadRequest"), ProviderError, id="400"),
    ],
)
def test_what_is_refused_in_its_own_words(
    service: Service, answer: Response, error: type[ProviderError]
) -> None:
    service.fault(answer)
    with pytest.raises(ProviderError) as refused:
        service.provider().add_txt(RECORD)
    assert type(refused.value) is error
    assert str(answer.status) in refused.value.why


@pytest.mark.parametrize("lacking", LEAST[1:])
def test_the_permission_that_is_missing_is_said(service: Service, lacking: str) -> None:
    service.provider().add_txt(RECORD)
    service.azure.may["certd"] = tuple(may for may in LEAST if may != lacking)
    one = service.provider()
    change = one.remove_txt if lacking.endswith("delete") else one.add_txt
    with pytest.raises(ProviderDenied, match=f"Microsoft.Network/{lacking}") as refused:
        change(TxtRecord(ZONE, RECORD.name, FIRST if "delete" in lacking else SECOND, 60))
    assert "DNS Zone Contributor" in refused.value.next
    assert refused.value.zone == ZONE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"client_secret": secret("wrong")}, "AADSTS7000215", id="a wrong secret"),
        pytest.param({"client_id": "unknown"}, "AADSTS700016", id="no such application"),
    ],
)
def test_a_wrong_credential_is_told(service: Service, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ProviderDenied, match=words) as refused:
        service.provider(**settings).add_txt(RECORD)
    assert "wrong" not in str(refused.value)
    assert not refused.value.zone


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="the connection is lost"),
        pytest.param(Response(503, b"<html>"), id="503 of a proxy"),
        pytest.param(Response(429, {"error": "temporarily_unavailable"}), id="too many requests"),
        pytest.param(
            Response(503, {"error": "temporarily_unavailable", "error_description": "AADSTS90033"}),
            id="503 in its words",
        ),
    ],
)
@pytest.mark.parametrize("end", ["openid-configuration", "token"])
def test_a_passing_failure_of_who_gives_tokens_is_tried_again(
    service: Service, answer: Response | None, end: str
) -> None:
    def fail(request: Request) -> Response:
        if not request.path.endswith(f"/{end}"):
            return service.azure(request)
        if answer is None:
            raise Lost
        return answer

    service.login = fail
    with pytest.raises(ProviderError) as failed:
        service.provider().add_txt(RECORD)
    # What 429 at the first of the two looks like may as well be a tenant that does not exist.
    told = end == "token" or answer is None or answer.status != 429
    assert type(failed.value) is (ProviderBusy if told else ProviderError)
    service.login = None
    service.provider().add_txt(RECORD)
    assert service.azure.values(*WHERE) == [FIRST]


@pytest.mark.parametrize("where", ["zone", "resource group"])
def test_a_zone_that_is_not_there_is_told_at_removal_too(service: Service, where: str) -> None:
    group, zone = (GROUP, "else.test") if where == "zone" else ("another", ZONE)
    one = Azure(SUBSCRIPTION, group, url=service.azure.url, **credential(service))
    with pytest.raises(ProviderError, match="NotFound"):
        one.remove_txt(TxtRecord(zone, f"_acme-challenge.{zone}", FIRST, 60))


def test_a_resource_group_that_is_not_there(service: Service) -> None:
    one = Azure("sub-2", GROUP, url=service.azure.url, **credential(service))
    with pytest.raises(ProviderError, match="ResourceGroupNotFound"):
        one.add_txt(RECORD)


@pytest.mark.parametrize("client_id", [None, "one of several"])
def test_a_managed_identity(
    service: Service, client_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.azure.url}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "the machine")
    service.azure.application(client_id or "machine", "", *LEAST)
    one = Azure(SUBSCRIPTION, GROUP, client_id=client_id, url=service.azure.url)
    one.add_txt(RECORD)
    assert service.azure.values(*WHERE) == [FIRST]


def test_a_machine_without_an_identity(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.azure.url)
    with pytest.raises(ProviderError, match="there is no credential") as missing:
        Azure(SUBSCRIPTION, GROUP, url=service.azure.url).add_txt(RECORD)
    assert not isinstance(missing.value, ProviderDenied), "it may have one in a minute"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.mgmt.dns", None)
    with pytest.raises(ProviderError) as missing:
        Azure(SUBSCRIPTION, GROUP).zones()
    assert missing.value.next == "pip install 'certd[azure]'"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"tenant_id": TENANT}, id="a tenant without a secret"),
        pytest.param({"tenant_id": TENANT, "client_secret": secret("x")}, id="whose secret?"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Azure(SUBSCRIPTION, GROUP, **settings)


def test_a_token_goes_nowhere_in_the_clear() -> None:
    for name in ("url", "authority"):
        check = Azure.__dataclass_fields__[name].metadata["check"]
        with pytest.raises(ConfigError):
            check("http://127.0.0.1")


def credential(service: Service) -> dict[str, Any]:
    one = service.provider()
    names = ("tenant_id", "client_id", "client_secret", "authority")
    return {name: getattr(one, name) for name in names}
