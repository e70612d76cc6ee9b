"""Google Cloud DNS against a server that behaves as documented, in the forms of its discovery."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth
import pytest
from certd_providers.google import Google
from google.auth import exceptions

from certd.api import ProviderBusy, ProviderDenied, ProviderError, SecretReference, TxtRecord
from certd.contract import FIRST, SECOND
from certd.references import reference
from certd.testing.dns import Account
from tests.fake_api import FakeAPI
from tests.fake_google import Google as Fake
from tests.fake_google import forms
from tests.fake_google_account import PROJECT, problem
from tests.http_contract import AccessTokenContract
from tests.http_server import Request, Response, serving

ZONE = "example.com"
ID = "example-com"
RECORD = TxtRecord(ZONE, f"_acme-challenge.{ZONE}", FIRST, 60)
KEY = (ID, f"{RECORD.name}.", "TXT")
ROBOT = "certd@project-1.iam.gserviceaccount.com"
# What Google.credential says, and nothing else.
LEAST = (
    "dns.managedZones.list",
    "dns.changes.create",
    "dns.resourceRecordSets.list",
    "dns.resourceRecordSets.create",
    "dns.resourceRecordSets.update",
    "dns.resourceRecordSets.delete",
)


class Service(FakeAPI):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.google = Fake(forms(), url=url)
        self.google.zone(ID, ZONE)
        self.key = self.google.account(ROBOT, *LEAST)

    def concerns(self, request: Request) -> bool:
        return request.path.startswith("/dns/")

    def answer(self, request: Request) -> Response:
        return self.google(request)

    def provider(self, key: str = "", **settings: Any) -> Google:
        return Google(secret(key or self.key), url=self.google.url, **settings)


def secret(text: str) -> SecretReference:
    return reference(text, Path("/"))


@pytest.fixture
def service() -> Iterator[Service]:
    at_work: list[Service] = []
    with serving(lambda request: at_work[0](request)) as url:
        at_work.append(Service(url))
        yield at_work[0]
    assert at_work[0].google.wrong == []


class TestGoogle(AccessTokenContract):
    @pytest.fixture
    def tokens(self, service: Service) -> dict[str, str]:
        return service.google.tokens

    @pytest.fixture
    def fake(self, service: Service) -> Service:
        return service

    @pytest.fixture
    def account(self, service: Service) -> Account:
        denied = service.provider(service.google.account("nobody@example.com"))
        private = json.loads(service.key)["private_key"].splitlines()[1]
        return Account(
            service.provider(),
            ZONE,
            lambda name: service.google.values(ID, name),
            denied,
            (private, "token-1"),
        )


def test_a_record_set_keeps_what_else_it_has(service: Service) -> None:
    theirs = {"name": KEY[1], "type": "TXT", "ttl": 300, "rrdatas": ['"z" "1"', '"a \\" \\009"']}
    service.google.sets[KEY] = theirs
    service.provider().add_txt(RECORD)
    assert service.google.sets[KEY] == {
        **theirs,
        "rrdatas": ['"z" "1"', '"a \\" \\009"', f'"{FIRST}"'],
    }
    service.provider().remove_txt(RECORD)
    assert service.google.sets[KEY] == theirs


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param('say "yes"', r'"say \"yes\""', id="quotes"),
        pytest.param("ü", r'"\195\188"', id="decimal, as in a zone file"),
        pytest.param("x" * 256, f'"{"x" * 255}" "x"', id="two strings"),
    ],
)
def test_a_value_is_written_as_in_a_zone_file(service: Service, text: str, written: str) -> None:
    one, record = service.provider(), TxtRecord(ZONE, RECORD.name, text, 60)
    one.add_txt(record)
    one.add_txt(record)
    assert service.google.sets[KEY]["rrdatas"] == [written]
    one.remove_txt(record)
    assert not service.google.sets


def test_all_public_zones_are_known(service: Service) -> None:
    for name in ("a", "b", "c"):
        service.google.zone(name, f"{name}.test")
    service.google.zone("inside", "inside.test", "private")
    one = service.provider()
    assert one.zones() == {ZONE, "a.test", "b.test", "c.test"}
    with pytest.raises(ProviderError, match="no public managed zone"):
        one.add_txt(TxtRecord("inside.test", "_acme-challenge.inside.test", FIRST, 60))


def test_a_private_zone_of_the_same_name_is_not_looked_at(service: Service) -> None:
    for number in range(3):
        service.google.zone(f"a-{number}", ZONE, "private")
    service.provider().add_txt(RECORD)
    assert list(service.google.sets) == [KEY]


def test_of_two_zones_of_one_name_the_setting_decides(service: Service) -> None:
    service.google.zone("other", ZONE)
    with pytest.raises(ProviderError, match=f"{ID}, other") as refused:
        service.provider().add_txt(RECORD)
    assert "managed_zone" in refused.value.next
    service.google.may[ROBOT] = frozenset(LEAST[1:]) | {"dns.managedZones.get"}
    one = service.provider(managed_zone="other")
    one.add_txt(RECORD)
    assert service.google.values("other", RECORD.name) == [FIRST]
    assert one.zones() == {ZONE}


@pytest.mark.parametrize("there", [False, True], ids=["a new set", "a set that is there"])
def test_nothing_is_lost_if_somebody_writes_at_the_same_time(service: Service, there: bool) -> None:
    if there:
        service.provider().add_txt(TxtRecord(ZONE, RECORD.name, "before", 60))

    def overtake(request: Request) -> Response:
        if request.method == "POST":
            service.before = None
            service.provider().add_txt(TxtRecord(ZONE, RECORD.name, SECOND, 60))
        return service.google(request)

    service.before = overtake
    with pytest.raises(ProviderBusy, match="412" if there else "409"):
        service.provider().add_txt(RECORD)
    service.provider().add_txt(RECORD)
    expected = [*(["before"] if there else []), SECOND, FIRST]
    assert service.google.values(ID, RECORD.name) == expected


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(problem(403, "rateLimitExceeded"), ProviderBusy, id="too many requests"),
        pytest.param(problem(403, "quotaExceeded"), ProviderBusy, id="quota"),
        pytest.param(problem(403, "forbidden"), ProviderDenied, id="403"),
        pytest.param(problem(403, "accessNotConfigured"), ProviderDenied, id="not enabled"),
        pytest.param(problem(400, "invalid"), ProviderError, id="400"),
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


@pytest.mark.parametrize("lacking", LEAST)
def test_the_permission_that_is_missing_is_said(service: Service, lacking: str) -> None:
    if not lacking.endswith("create"):
        service.provider().add_txt(RECORD)
    service.google.may[ROBOT] = frozenset(LEAST) - {lacking}
    one = service.provider()
    change = one.remove_txt if lacking.endswith("delete") else one.add_txt
    value = SECOND if lacking.endswith("update") else FIRST
    with pytest.raises(ProviderDenied, match=lacking) as refused:
        change(TxtRecord(ZONE, RECORD.name, value, 60))
    assert "dns.changes.create" in refused.value.next
    assert refused.value.zone == ("" if lacking == "dns.managedZones.list" else ZONE)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        pytest.param({"client_email": "x@example.com"}, ProviderDenied, "invalid_grant", id="who?"),
        pytest.param({"private_key": "x"}, ProviderError, "no service account's key", id="no key"),
        pytest.param({"token_uri": None}, ProviderError, "no service account's key", id="half"),
    ],
)
def test_a_wrong_key_is_told(
    service: Service, change: dict[str, Any], error: type[ProviderError], words: str
) -> None:
    key = {name: value for name, value in (json.loads(service.key) | change).items() if value}
    with pytest.raises(error, match=words):
        service.provider(json.dumps(key)).add_txt(RECORD)


def test_a_key_that_is_no_json(service: Service) -> None:
    with pytest.raises(ProviderError, match="no service account's key") as refused:
        service.provider("open sesame").add_txt(RECORD)
    assert "sesame" not in str(refused.value)


def test_the_machine_s_own_credential(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(service.key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    Google(url=service.google.url).add_txt(RECORD)
    assert service.google.values(ID, RECORD.name) == [FIRST]


def test_a_machine_whose_metadata_server_is_away_is_tried_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As google.auth.compute_engine tells it."""
    untyped: Any = exceptions

    class Machine:
        def refresh(self, _request: Any) -> None:
            away = untyped.TransportError("Compute Engine Metadata server unavailable")
            raise untyped.RefreshError(away) from away

    monkeypatch.setattr(google.auth, "default", lambda **_: (Machine(), PROJECT))
    with pytest.raises(ProviderBusy, match="no access token"):
        Google(url=service.google.url).add_txt(RECORD)


def test_nobody_to_ask_as(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(ProviderError, match="there is no credential"):
        Google(url=service.google.url).add_txt(RECORD)


def test_the_project_may_be_another(service: Service) -> None:
    one = service.provider(project="other")
    with pytest.raises(ProviderError, match="404"):
        one.add_txt(RECORD)
    service.provider(project=PROJECT).add_txt(RECORD)
    key = {**json.loads(service.key), "project_id": ""}
    with pytest.raises(ProviderError, match="needs a project"):
        service.provider(json.dumps(key)).add_txt(RECORD)


def test_a_record_set_with_a_routing_policy_is_left_alone(service: Service) -> None:
    weighted = {
        "name": KEY[1],
        "type": "TXT",
        "ttl": 60,
        "routingPolicy": {"wrr": {"items": [{"weight": 1.0, "rrdatas": ['"x"']}]}},
    }
    service.google.sets[KEY] = weighted
    one = service.provider()
    for change in (one.add_txt, one.remove_txt):
        with pytest.raises(ProviderError, match="routing policy"):
            change(RECORD)
    assert service.google.sets[KEY] == weighted


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(ProviderError) as missing:
        Google(project="x").zones()
    assert missing.value.next == "pip install 'certd[google]'"
