"""The API of a real PowerDNS, and what one says that is not well."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dns.message
import dns.opcode
import pytest
from certd_providers import powerdns
from certd_providers.powerdns import PowerDNS

from certd.api import (
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.testing import powerdns as servers
from certd.testing.dns import Account, DNSProviderContract

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


class TestPowerDNS(DNSProviderContract):
    @pytest.fixture
    def account(self, server: servers.PowerDNS) -> Account:
        secrets = (server.key, WRONG)
        denied = _provider(server.url, WRONG)
        return Account(_provider(server.url), ZONE, server.values, denied, secrets)


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


class _Handler(http.server.BaseHTTPRequestHandler):
    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(size)) if size else None
        status, headers, body = self.server.reply(self.command, self.path, sent)  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PATCH = do_PUT = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


Reply = Callable[[str, str, Any], tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def _fake(reply: Reply) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as fake:
        fake.reply = reply  # type: ignore[attr-defined]
        threading.Thread(target=fake.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{fake.server_port}"
        fake.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, b'{"error": "Could not open the database"}', ProviderBusy),
        (503, b"<html>the proxy</html>", ProviderBusy),
        (429, b"slow down", ProviderBusy),
        (401, b"Unauthorized", ProviderDenied),
        (403, b"the proxy allows no such path", ProviderDenied),
        (422, b'{"error": "no"}', ProviderError),
        (200, b"<html>another service</html>", ProviderError),
        (200, b"[]", ProviderError),
    ],
)
def test_refusals(status: int, body: bytes, kind: type[ProviderError]) -> None:
    with _fake(lambda *_: (status, {"Retry-After": "7"}, body)) as url:
        for change in (_provider(url).add_txt, _provider(url).remove_txt):
            with pytest.raises(ProviderError) as refused:
                change(RECORD)
            assert type(refused.value) is kind
            assert refused.value.next
            assert servers.PowerDNS.key not in str(refused.value)
            if isinstance(refused.value, ProviderBusy):
                assert refused.value.retry_after == 7


@pytest.mark.parametrize("body", [b"<html>another service</html>", b'{"zones": []}', b'["a"]'])
def test_a_list_of_zones_that_is_none(body: bytes) -> None:
    with (
        _fake(lambda *_: (200, {}, body)) as url,
        pytest.raises(ProviderError, match="no list of zones"),
    ):
        _provider(url).zones()


def test_of_the_whole_zone_only_the_name_is_written() -> None:
    sent: list[Any] = []
    other = {"name": f"other.{ZONE}.", "type": "TXT", "ttl": 9, "records": [{"content": '"no"'}]}
    address = {"name": f"{NAME}.", "type": "A", "ttl": 9, "records": [{"content": "192.0.2.1"}]}
    mine = {"name": f"{NAME.title()}.", "type": "TXT", "ttl": 9, "records": [{"content": '"one"'}]}

    def reply(method: str, _: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        if method == "PATCH":
            sent.append(body)
            return 204, {}, b""
        zone = {"name": f"{ZONE}.", "kind": "Native", "rrsets": [other, address, mine]}
        return 200, {}, json.dumps(zone).encode()

    with _fake(reply) as url:
        _provider(url).add_txt(RECORD)
    [[change]] = [each["rrsets"] for each in sent]
    assert change["name"] == f"{NAME}."
    assert [each["content"] for each in change["records"]] == ['"one"', '"value"']


@pytest.mark.parametrize("url", ["", "127.0.0.1:8081", "ftp://x", "http://u:p@x", "http://x?a=b"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError):
        powerdns._check_url(url)
