"""lexicon: the contract with its own providers at servers and a file, and what they get wrong."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.zone
import pytest
import requests
from certd_providers import lexicon_facts as facts
from certd_providers import lexicon_library as library
from certd_providers.lexicon import Lexicon

from certd import plugins
from certd.api import (
    ConfigError,
    NotHere,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    Secret,
    SecretReference,
    TxtRecord,
)
from certd.config.tables import TargetTable
from certd.contract import FIRST, SECOND
from certd.settings import Surroundings
from certd.testing.dns import Account, DNSProviderContract
from tests.dnse_servers import ZONE, OnApp, PowerDNS

RECORD = TxtRecord(ZONE, f"_acme-challenge.www.{ZONE}", FIRST, 60)
OTHER = TxtRecord(ZONE, RECORD.name, SECOND, 60)
EMPTY = f"""$ORIGIN {ZONE}.
@ 3600 IN SOA ns hostmaster 1 7200 900 1209600 300
@ 3600 IN NS ns
"""
Options = dict[str, str | SecretReference]
INSTALLED = sorted(library.names())


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


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


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
    @pytest.fixture
    def account(self, pdns: PowerDNS) -> Account:
        denied = powerdns(pdns, "wr0ng-token")
        return Account(powerdns(pdns), ZONE, pdns.values, denied, (pdns.token, "wr0ng-token"))


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
    with pytest.raises(ProviderError, match="MissingSchema") as failed:
        wrong.add_txt(RECORD)
    assert type(failed.value) is ProviderError


def test_an_unknown_zone_is_told_as_such_and_not_as_a_wrong_credential(panel: OnApp) -> None:
    stranger = TxtRecord("example.net", "_acme-challenge.example.net", FIRST, 60)
    with pytest.raises(ProviderError, match=r"does not let certd into the zone example\.net") as no:
        onapp(panel).add_txt(stranger)
    assert not isinstance(no.value, ProviderDenied)


def test_a_request_has_an_end_whatever_lexicon_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def send(_self: Any, _request: Any, **how: Any) -> Any:
        seen.append(how["timeout"])
        raise requests.ConnectTimeout("https://example.com/?token=s3cret-token")

    monkeypatch.setattr(requests.Session, "send", send)
    for name in ("powerdns", "onapp", "namecom", "gandi"):
        given = dict.fromkeys(facts.NEEDED[name], "https://127.0.0.1")
        given |= {"api_protocol": "rest"} if name == "gandi" else {}
        with pytest.raises(ProviderBusy) as failed:
            Lexicon(name, {**given}).add_txt(RECORD)
        assert "s3cret" not in str(failed.value)
    assert seen
    assert all(seen)


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A provider of lexicon's, in whose place tests misbehave."""
    made = SimpleNamespace(listed=[], created=True, deleted=[])
    made.authenticate = made.cleanup = lambda: None
    made.list_records = lambda *_: list(made.listed)
    made.create_record = lambda *_: made.created
    made.delete_record = lambda *how: made.deleted.append(how)
    monkeypatch.setattr(library, "provider", lambda *_: made)
    return made


def test_a_failure_that_lexicon_takes_for_success_is_found(stranger: SimpleNamespace) -> None:
    with pytest.raises(ProviderBusy, match="does not list what was added"):
        Lexicon("namesilo", {"auth_token": "t"}).add_txt(RECORD)
    Lexicon("luadns", {"auth_token": "t", "auth_username": "u"}).add_txt(RECORD)
    stranger.created = False
    with pytest.raises(ProviderError, match="did not add"):
        Lexicon("luadns", {"auth_token": "t", "auth_username": "u"}).add_txt(RECORD)


def test_of_names_that_are_alike_only_the_own_is_removed(stranger: SimpleNamespace) -> None:
    alike = {"name": f"a.{RECORD.name}", "content": FIRST, "id": 1}
    own = {"name": RECORD.name, "content": f'"{FIRST}"', "id": 2}
    stranger.listed = [alike, own]
    Lexicon("henet", {"auth_username": "u", "auth_password": "p"}).remove_txt(RECORD)
    assert [how[0] for how in stranger.deleted] == [2]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("401 bad key s3cret-token", ProviderDenied, id="a credential"),
        pytest.param("No domain found", ProviderError, id="a zone"),
    ],
)
def test_what_lexicon_calls_authentication_is_told_apart(
    stranger: SimpleNamespace, text: str, kind: type[ProviderError]
) -> None:
    from lexicon.exceptions import AuthenticationError

    def refuse() -> None:
        raise AuthenticationError(text)

    stranger.authenticate = refuse
    with pytest.raises(ProviderError) as failed:
        Lexicon("vultr", {"auth_token": hidden("s3cret-token")}).add_txt(RECORD)
    assert type(failed.value) is kind
    assert "s3cret-token" not in str(failed.value)


def test_no_option_is_in_any_words_however_it_is_written(stranger: SimpleNamespace) -> None:
    def fail() -> None:
        # quoted for an address, and as HTTP's basic authentication has it
        raise RuntimeError("GET /?key=a%2Fb%2B%3D1 by YWRtaW46YS9iKz0x of admin failed")

    stranger.authenticate = fail
    options: Options = {"auth_username": "admin", "auth_token": hidden("a/b+=1")}
    with pytest.raises(ProviderError) as failed:
        Lexicon("luadns", options).add_txt(RECORD)
    assert failed.value.why == "RuntimeError: GET /?key=*** by *** of *** failed"


def built(folder: Path, **table: Any) -> Any:
    model = plugins.settings_model("lexicon", Lexicon, TargetTable)
    settings = model.model_validate({"type": "lexicon", **table}, context=Surroundings(folder))
    return plugins.build(Lexicon, settings)


def test_a_table_has_strings_and_places_of_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    given = {"auth_username": "me", "auth_token": {"file": "token"}}
    made = built(tmp_path, name="luadns", options=given)
    assert made.options["auth_username"] == "me"
    assert made.options["auth_token"].fetch() == Secret("s3cret")
    assert "options" in plugins.secret_settings(Lexicon)


@pytest.mark.parametrize(
    ("name", "options", "what", "next"),
    [
        ("luadns", {"auth_tokn": "t"}, "no option auth_tokn", "did you mean auth_token?"),
        ("luadns", {"color": "t"}, "no option color", "known here: auth_username, auth_token"),
        ("luadns", {"auth_username": "u"}, "auth_token is missing", 'add auth_token = { file = "'),
        ("desec", {}, "there is none", "add those"),
        ("zonomi", {"auth_token": "t", "auth_entrypoint": "x"}, "auth_entrypoint", "zonomi, rimu"),
        (
            "transip",
            {"auth_username": "u", "auth_api_key": "k", "auth_key_is_global": "yes"},
            "auth_key_is_global",
            "true, false",
        ),
    ],
)
def test_wrong_options_are_told_when_the_configuration_is_read(
    tmp_path: Path, name: str, options: dict[str, str], what: str, next: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        built(tmp_path, name=name, options=options)
    assert what in refused.value.what
    assert next in refused.value.next


@pytest.mark.parametrize(
    ("name", "kind", "next"),
    [
        ("luadsn", ConfigError, "did you mean luadns?"),
        ("auto", ConfigError, ""),
        ("oci", NotHere, "pip install 'dns-lexicon[oci]'"),
    ],
)
def test_a_name_that_is_none_is_told(name: str, kind: type[ConfigError], next: str) -> None:
    if name == "oci" and library.names()["oci"]:
        pytest.skip("its package is installed")
    check = Lexicon.__dataclass_fields__["name"].metadata["check"]
    with pytest.raises(ConfigError) as refused:
        check(name)
    assert type(refused.value) is kind
    assert next in refused.value.next


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "lexicon"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Nothing(), *sys.meta_path])
    check = Lexicon.__dataclass_fields__["name"].metadata["check"]
    with pytest.raises(NotHere, match=r"pip install 'certd\[lexicon\]'"):
        check("luadns")
    provider = Lexicon("luadns", {"auth_username": "u", "auth_token": "t"})
    with pytest.raises(ProviderError, match=r"pip install 'certd\[lexicon\]'"):
        provider.add_txt(RECORD)


class _Nothing:
    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "lexicon":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("name", [name for name, here in library.names().items() if here])
def test_what_certd_knows_of_a_provider_is_so(name: str) -> None:
    assert set(facts.NEEDED.get(name, ())) <= set(library.options(name))


def test_what_certd_knows_is_of_providers_that_are_there() -> None:
    for known in (facts.ONE_VALUE, facts.WHOLE_ZONE, facts.LOOSE, facts.BY_LABEL, facts.SILENT):
        assert known <= set(INSTALLED)
    assert facts.TTL_OF_ZONE | set(facts.LEAST_TTL) | set(facts.NEEDED) <= set(INSTALLED)


def test_limits_are_those_of_the_named_provider() -> None:
    duck = Lexicon("duckdns", {"auth_token": "t"})
    assert (duck.most_values, duck.exclusive) == (1, "zone")
    lua = Lexicon("luadns", {"auth_username": "u", "auth_token": "t"})
    assert (lua.most_values, lua.exclusive) == (None, "name")


def test_a_ttl_that_the_service_would_refuse_is_not_asked_for(
    pdns: PowerDNS, monkeypatch: pytest.MonkeyPatch
) -> None:
    powerdns(pdns).add_txt(RECORD)
    assert pdns.sets[f"{RECORD.name}."]["ttl"] == 60
    pdns.sets.clear()
    monkeypatch.setattr(facts, "LEAST_TTL", {"powerdns": 300})
    powerdns(pdns).add_txt(RECORD)
    assert pdns.sets[f"{RECORD.name}."]["ttl"] == 300


def test_what_it_prints_and_logs_goes_nowhere(
    pdns: PowerDNS, capsys: pytest.CaptureFixture[str]
) -> None:
    library.options("dnsservices")
    module = sys.modules["lexicon._private.providers.dnsservices"]
    vars(module)["print"]("s3cret")
    logging.getLogger(module.__name__).error("s3cret")
    assert capsys.readouterr() == ("", "")


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
