"""The API of a real PowerDNS, and what one says that is not well."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.opcode
import pytest
from certd_providers.powerdns import PowerDNS
from certd_providers.rest import API, Answer

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.testing import powerdns as servers
from certd.testing.dns import Account
from tests.fake_api import FakeAPI
from tests.http_contract import HTTPProviderContract
from tests.http_server import Request, Response, forwarded, serving

ZONE = "example.test"
NAME = f"_acme-challenge.own.{ZONE}"
WRONG = "another-key-altogether"
RECORD = TxtRecord(ZONE, NAME, "value", 60)


@pytest.fixture(scope="module")
def server() -> Iterator[servers.PowerDNS]:
    with servers.PowerDNS([ZONE, f"sub.{ZONE}"]) as running:
        yield running


def _provider(url: str, key: str = servers.PowerDNS.key) -> PowerDNS:
    return PowerDNS(url, SecretReference("plain", Secret(key)))


class Front(FakeAPI):
    """Before a real one."""

    def __init__(self, behind: str) -> None:
        super().__init__()
        self._behind = behind

    def answer(self, request: Request) -> Response:
        return forwarded(self._behind, request)


class TestPowerDNS(HTTPProviderContract):
    @pytest.fixture
    def fake(self, server: servers.PowerDNS) -> Iterator[Front]:
        front = Front(server.url)
        with front.running():
            yield front

    @pytest.fixture
    def account(self, server: servers.PowerDNS, fake: Front) -> Account:
        secrets = (server.key, WRONG)
        denied = _provider(fake.url, WRONG)
        return Account(_provider(fake.url), ZONE, server.values, denied, secrets)


def _sets(server: servers.PowerDNS, name: str) -> list[dict[str, Any]]:
    zone = server.call("GET", f"/zones/{ZONE}.").json()
    return [each for each in zone["rrsets"] if each["name"] == f"{name}."]


def _put(server: servers.PowerDNS, name: str, **more: object) -> None:
    change = {"name": f"{name}.", "type": "TXT", "changetype": "REPLACE", "ttl": 300, **more}
    assert server.call("PATCH", f"/zones/{ZONE}.", {"rrsets": [change]}).status_code == 204


ODD = [
    pytest.param('with "quotes" and \\ and ; in it', id="what has a meaning in text"),
    pytest.param("ä €, two bytes and three", id="no ASCII"),
    pytest.param("x" * 255 + "y" * 255 + "z", id="three strings"),
    pytest.param("ä" * 200, id="a letter over two strings"),
]


@pytest.mark.parametrize("value", ODD)
def test_every_value_is_published_and_found_again(server: servers.PowerDNS, value: str) -> None:
    provider, record = _provider(server.url), dataclasses.replace(RECORD, value=value)
    for _ in range(2):
        provider.add_txt(record)
    assert server.values(NAME) == [value]
    for _ in range(2):
        provider.remove_txt(record)
    assert server.values(NAME) == []


def test_what_others_have_at_the_name_stays_as_it_is(server: servers.PowerDNS) -> None:
    name = f"others.{ZONE}"
    records = [
        {"content": '"split" "in two"', "disabled": False},
        {"content": '"not now"', "disabled": True},
    ]
    comments = [{"content": "hands off", "account": "ops"}]
    _put(server, name, records=records, comments=comments)
    record = TxtRecord(ZONE, name, "value", 60)
    _provider(server.url).add_txt(record)
    assert server.values(name) == ["splitin two", "value"]
    _provider(server.url).remove_txt(record)
    [after] = _sets(server, name)
    assert sorted(after["records"], key=lambda each: each["disabled"]) == records
    assert after["ttl"] == 300
    assert after["comments"][0]["content"] == "hands off"


def test_a_value_that_is_disabled_is_published(server: servers.PowerDNS) -> None:
    name = f"disabled.{ZONE}"
    _put(server, name, records=[{"content": '"value"', "disabled": True}])
    record = TxtRecord(ZONE, name, "value", 60)
    _provider(server.url).add_txt(record)
    assert server.values(name) == ["value"]
    _provider(server.url).remove_txt(record)
    assert _sets(server, name) == []


def test_the_ttl_is_that_of_the_record(server: servers.PowerDNS) -> None:
    _provider(server.url).add_txt(RECORD)
    assert [each["ttl"] for each in _sets(server, NAME)] == [60]
    _provider(server.url).remove_txt(RECORD)


def test_a_name_with_an_alias_is_refused_in_its_words(server: servers.PowerDNS) -> None:
    name = f"alias.{ZONE}"
    _put(server, name, type="CNAME", records=[{"content": "elsewhere.", "disabled": False}])
    with pytest.raises(ProviderError, match="Conflicts with pre-existing RRset"):
        _provider(server.url).add_txt(TxtRecord(ZONE, name, "value", 60))


def test_a_zone_that_comes_from_elsewhere_is_not_written_to(server: servers.PowerDNS) -> None:
    server.make("copy.test", "Slave", masters=["127.0.0.1"], nameservers=[])
    provider = _provider(server.url)
    assert set(provider.zones()) >= {ZONE, f"sub.{ZONE}"}
    assert "copy.test" not in provider.zones()
    with pytest.raises(ProviderError, match="the next transfer would undo it"):
        provider.add_txt(TxtRecord("copy.test", "_acme-challenge.copy.test", "value", 60))


def test_secondaries_are_told_at_once(server: servers.PowerDNS) -> None:
    server.make("told.test", "Master")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as secondary:
        secondary.bind(("127.0.0.1", 0))
        secondary.settimeout(10)
        address = f"127.0.0.1:{secondary.getsockname()[1]}"
        whom = {"kind": "ALSO-NOTIFY", "metadata": [address]}
        assert server.call("PUT", "/zones/told.test./metadata/ALSO-NOTIFY", whom).ok
        record = TxtRecord("told.test", "_acme-challenge.told.test", "value", 60)
        _provider(server.url).add_txt(record)
        heard = dns.message.from_wire(secondary.recv(4096))
    assert heard.opcode() == dns.opcode.NOTIFY
    assert heard.question[0].name.to_text() == "told.test."
    assert server.values(record.name) == ["value"]


def test_a_server_of_another_name_has_no_zones(server: servers.PowerDNS) -> None:
    provider = dataclasses.replace(_provider(server.url), server="other")
    with pytest.raises(ProviderError, match="no such zone") as refused:
        provider.add_txt(RECORD)
    assert "server" in refused.value.next


# What is not well


@pytest.mark.parametrize("body", [b"<html>another service</html>", b'{"zones": []}', b'["a"]'])
def test_a_list_of_zones_that_is_none(body: bytes) -> None:
    with (
        serving(lambda _: Response(200, body)) as url,
        pytest.raises(ProviderError, match="no list of zones"),
    ):
        _provider(url).zones()


def test_of_the_whole_zone_only_the_name_is_written() -> None:
    sent: list[Any] = []
    other = {"name": f"other.{ZONE}.", "type": "TXT", "ttl": 9, "records": [{"content": '"no"'}]}
    address = {"name": f"{NAME}.", "type": "A", "ttl": 9, "records": [{"content": "192.0.2.1"}]}
    mine = {"name": f"{NAME.title()}.", "type": "TXT", "ttl": 9, "records": [{"content": '"one"'}]}

    def reply(request: Request) -> Response:
        if request.method == "PATCH":
            sent.append(request.json)
            return Response(204)
        sets = [other, address, sent[0]["rrsets"][0] if sent else mine]
        return Response(200, {"name": f"{ZONE}.", "kind": "Native", "rrsets": sets})

    with serving(reply) as url:
        _provider(url).add_txt(RECORD)
    [[change]] = [each["rrsets"] for each in sent]
    assert change["name"] == f"{NAME}."
    assert [each["content"] for each in change["records"]] == ['"one"', '"value"']


@pytest.mark.parametrize(("times", "good"), [(1, True), (2, False)])
def test_what_somebody_else_undoes_is_done_again(
    server: servers.PowerDNS, times: int, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has read the set before us, and writes it after us."""
    name, writes = f"undone.{ZONE}", 0
    theirs = [{"content": '"theirs"', "disabled": False}]
    call = API.call

    def overtaken(self: API, method: str, path: str, **how: Any) -> Answer:
        nonlocal writes
        answer = call(self, method, path, **how)
        if method == "PATCH":
            writes += 1
            if writes <= times:
                _put(server, name, records=theirs)
        return answer

    monkeypatch.setattr(API, "call", overtaken)
    record = TxtRecord(ZONE, name, "value", 60)
    if good:
        _provider(server.url).add_txt(record)
    else:
        with pytest.raises(ProviderBusy, match="undone the change"):
            _provider(server.url).add_txt(record)
    assert writes == 2
    assert sorted(server.values(name)) == (["theirs", "value"] if good else ["theirs"])
    _put(server, name, records=[])


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8081", "ftp://x", "https://u:p@x", "https://x?a=b", "http://192.0.2.1:8081"],
)
def test_an_address_that_is_none_or_shows_the_key_to_others(url: str) -> None:
    with pytest.raises(ConfigError):
        PowerDNS.__dataclass_fields__["url"].metadata["check"](url)
