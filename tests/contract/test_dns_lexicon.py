"""lexicon: the contract with its own providers at servers and a file, and what they get wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.zone
import pytest
from certd_providers import lexicon_facts as facts
from certd_providers.lexicon import Lexicon

from certd.api import (
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.contract import FIRST, SECOND
from certd.testing import powerdns as servers
from certd.testing.dns import Account, DNSProviderContract
from tests.lexiconservers import ZONE, OnApp, PowerDNS

RECORD = TxtRecord(ZONE, f"_acme-challenge.www.{ZONE}", FIRST, 60)
OTHER = TxtRecord(ZONE, RECORD.name, SECOND, 60)
EMPTY = f"""$ORIGIN {ZONE}.
@ 3600 IN SOA ns hostmaster 1 7200 900 1209600 300
@ 3600 IN NS ns
"""
Options = dict[str, str | SecretReference]


def hidden(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


def powerdns(server: PowerDNS, token: str = PowerDNS.token) -> Lexicon:
    return Lexicon("powerdns", {"pdns_server": server.url, "auth_token": hidden(token)})


def onapp(server: OnApp, token: str = OnApp.token) -> Lexicon:
    options: Options = {
        "auth_server": server.url,
        "auth_username": OnApp.user,
        "auth_token": hidden(token),
    }
    return Lexicon("onapp", options)


@pytest.fixture(scope="module")
def shared_powerdns() -> Iterator[PowerDNS]:
    server = PowerDNS()
    with server.running():
        yield server


@pytest.fixture(scope="module")
def shared_onapp() -> Iterator[OnApp]:
    server = OnApp()
    with server.running():
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[servers.PowerDNS]:
    with servers.PowerDNS([ZONE]) as running:
        yield running


@pytest.fixture
def pdns(shared_powerdns: PowerDNS) -> PowerDNS:
    shared_powerdns.sets.clear()
    shared_powerdns.fail.clear()
    shared_powerdns.asked.clear()
    return shared_powerdns


@pytest.fixture
def panel(shared_onapp: OnApp) -> OnApp:
    shared_onapp.records.clear()
    shared_onapp.asked.clear()
    return shared_onapp


class TestPowerDNSContract(DNSProviderContract):
    """Of a real one."""

    @pytest.fixture
    def account(self, server: servers.PowerDNS) -> Account:
        def provider(key: str) -> Lexicon:
            return Lexicon("powerdns", {"pdns_server": server.url, "auth_token": hidden(key)})

        secrets = (server.key, "wr0ng-token")
        return Account(provider(server.key), ZONE, server.values, provider(secrets[1]), secrets)


class TestOnAppContract(DNSProviderContract):
    @pytest.fixture
    def account(self, panel: OnApp) -> Account:
        denied = onapp(panel, "wr0ng-token")
        return Account(onapp(panel), ZONE, panel.values, denied, (panel.token, "wr0ng-token"))


class TestLocalzoneContract(DNSProviderContract):
    @pytest.fixture
    def account(self, tmp_path: Path) -> Account:
        file = tmp_path / "zone"
        file.write_text(EMPTY)

        def values(name: str) -> list[str]:
            found = dns.zone.from_text(file.read_text(), ZONE).get_rdataset(f"{name}.", "TXT")
            return [b"".join(rdata.strings).decode() for rdata in found or ()]

        return Account(Lexicon("localzone", {"filename": str(file)}), ZONE, values)


def test_a_value_that_is_there_is_not_added_again(panel: OnApp) -> None:
    for _ in range(2):
        onapp(panel).add_txt(RECORD)
    assert [method for method, _ in panel.asked].count("POST") == 1


def test_what_is_not_there_is_not_asked_to_be_removed(pdns: PowerDNS) -> None:
    powerdns(pdns).add_txt(OTHER)
    pdns.asked.clear()
    powerdns(pdns).remove_txt(RECORD)
    assert {method for method, _ in pdns.asked} == {"GET"}
    assert pdns.values(RECORD.name) == [SECOND]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    ("status", "headers", "kind", "after"),
    [
        pytest.param(429, {"Retry-After": "7"}, ProviderBusy, 7.0, id="too many"),
        pytest.param(500, {}, ProviderBusy, None, id="broken"),
        pytest.param(503, {}, ProviderBusy, None, id="not now"),
        pytest.param(401, {}, ProviderDenied, None, id="no credential"),
        pytest.param(403, {}, ProviderDenied, None, id="not allowed"),
        pytest.param(422, {}, ProviderError, None, id="refused"),
    ],
)
def test_a_status_says_what_it_means(
    pdns: PowerDNS,
    method: str,
    status: int,
    headers: dict[str, str],
    kind: type[ProviderError],
    after: float | None,
) -> None:
    said = json.dumps({"error": f"the key {pdns.token} is not for this"})
    pdns.fail.append((method, status, headers, said))
    with pytest.raises(ProviderError) as failed:
        powerdns(pdns).add_txt(RECORD)
    assert type(failed.value) is kind
    assert getattr(failed.value, "retry_after", None) == after
    assert "the key *** is not for this" in failed.value.why
    assert failed.value.next
    assert failed.value.__cause__ is None


def test_a_write_whose_answer_was_lost_is_made_once(panel: OnApp) -> None:
    panel.lose.append("POST")
    with pytest.raises(ProviderBusy, match="no answer"):
        onapp(panel).add_txt(RECORD)
    onapp(panel).add_txt(RECORD)
    assert panel.values(RECORD.name) == [FIRST]


def test_a_server_that_is_not_there_is_busy_and_an_address_that_is_none_is_wrong() -> None:
    options = {"auth_token": hidden("s3cret-token")}
    gone = Lexicon("powerdns", {"pdns_server": "http://127.0.0.1:1", **options})
    with pytest.raises(ProviderBusy, match="no answer"):
        gone.add_txt(RECORD)
    wrong = Lexicon("powerdns", {"pdns_server": "nonsense", **options})
    with pytest.raises(ProviderError, match="an option is no address") as failed:
        wrong.add_txt(RECORD)
    assert type(failed.value) is ProviderError


def test_an_unknown_zone_is_told_as_such_and_not_as_a_wrong_credential(panel: OnApp) -> None:
    stranger = TxtRecord("example.net", "_acme-challenge.example.net", FIRST, 60)
    with pytest.raises(ProviderError, match=r"does not let certd into the zone example\.net") as no:
        onapp(panel).add_txt(stranger)
    assert not isinstance(no.value, ProviderDenied)


def test_a_ttl_that_the_service_would_refuse_is_not_asked_for(
    pdns: PowerDNS, monkeypatch: pytest.MonkeyPatch
) -> None:
    powerdns(pdns).add_txt(RECORD)
    assert pdns.sets[f"{RECORD.name}."]["ttl"] == 60
    pdns.sets.clear()
    monkeypatch.setattr(facts, "LEAST_TTL", {"powerdns": 300})
    powerdns(pdns).add_txt(RECORD)
    assert pdns.sets[f"{RECORD.name}."]["ttl"] == 300


WATCHED = """
import sys, json, os
seen = []
def watch(event, arguments):
    if event == "socket.connect":
        seen.append(repr(arguments[1]))
    elif event == "socket.getaddrinfo":
        seen.append(repr(arguments[0]))
    elif event == "open" and isinstance(arguments[0], str) and os.path.isabs(arguments[0]):
        seen.append(arguments[0])
sys.addaudithook(watch)
from certd_providers.lexicon import Lexicon
from certd_providers.rest import READ
from certd.api import TxtRecord
provider = Lexicon(sys.argv[1], json.loads(sys.argv[2]))
provider.add_txt(TxtRecord(*json.loads(sys.argv[3])))
print("\\n".join(seen))
"""


def test_it_reads_and_asks_nothing_but_what_it_is_told(pdns: PowerDNS, tmp_path: Path) -> None:
    """Neither lexicon's files and variables nor ~/.netrc, and no other host."""
    (tmp_path / "lexicon.yml").write_text("powerdns: {auth_token: wrong}\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password wrong\n")
    options = {"pdns_server": pdns.url, "auth_token": pdns.token}
    argv = ["powerdns", json.dumps(options), json.dumps([ZONE, RECORD.name, FIRST, 60])]
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, *argv],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "LEXICON_POWERDNS_AUTH_TOKEN": "wrong", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert pdns.values(RECORD.name) == [FIRST]
    seen = ended.stdout.splitlines()
    assert not [one for one in seen if str(tmp_path) in one]
    asked = {one for one in seen if one.startswith(("'", "("))}
    assert asked
    assert all("127.0.0.1" in one for one in asked)
