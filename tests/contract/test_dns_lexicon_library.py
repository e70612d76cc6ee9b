"""lexicon: its settings, and what holds for all of its providers."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from certd_providers import lexicon_facts as facts
from certd_providers import lexicon_library as library
from certd_providers.lexicon import Lexicon
from certd_providers.rest import READ

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
from certd.contract import FIRST
from certd.settings import Surroundings
from tests.http_server import Request, Response, serving
from tests.lexiconservers import ZONE

RECORD = TxtRecord(ZONE, f"_acme-challenge.www.{ZONE}", FIRST, 60)
Options = dict[str, str | SecretReference]
INSTALLED = sorted(library.names())
USABLE = [name for name, here in library.names().items() if here]
# Options that are taken apart before anything is asked.
SHAPED: dict[str, dict[str, str]] = {
    "ddns": {"auth_token": "hmac-sha256:key:c2VjcmV0", "ddns_server": "127.0.0.1"},
    "directadmin": {"endpoint": "https://127.0.0.1"},
    "hover": {"auth_totp_secret": "ONSWG4TFOQWXI33LMVXC25DPNNSW4==="},
    "onapp": {"auth_server": "https://127.0.0.1"},
    "plesk": {"plesk_server": "https://127.0.0.1"},
    "powerdns": {"pdns_server": "https://127.0.0.1"},
}
# They find something wrong before they ask: two ways to authenticate, a file that is not there …
OTHERWISE = {"cloudns", "desec", "duckdns", "googleclouddns", "localzone", "transip"}


def hidden(text: str) -> SecretReference:
    return SecretReference("plain", Secret(text))


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


def test_a_credential_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    got: list[Request] = []

    def other(request: Request) -> Response:
        got.append(request)
        return Response(200, [])

    with serving(other) as elsewhere:

        def lead(request: Request) -> Response:
            return Response(307, headers={"Location": f"{elsewhere}{request.target}"})

        with serving(lead) as url:
            one = Lexicon("powerdns", {"auth_token": hidden("s3cret"), "pdns_server": url})
            with pytest.raises(ProviderError, match="307") as refused:
                one.add_txt(RECORD)
    assert not got
    assert not isinstance(refused.value, ProviderBusy)


def test_what_it_prints_and_logs_goes_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    library.options("dnsservices")
    module = sys.modules["lexicon._private.providers.dnsservices"]
    vars(module)["print"]("s3cret")
    logging.getLogger(module.__name__).error("s3cret")
    assert capsys.readouterr() == ("", "")


def test_xml_rpc_has_an_end_too() -> None:
    library.options("inwx")
    client = sys.modules["lexicon._private.providers.inwx"].xmlrpclib
    proxy = client.ServerProxy("https://127.0.0.1/xmlrpc/", allow_none=True)
    assert proxy("transport").make_connection("127.0.0.1").timeout == READ
    assert issubclass(client.Fault, Exception)


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


@pytest.mark.parametrize("name", USABLE)
def test_one_whose_service_does_not_answer_says_so_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever its author raises then, in words of certd's, without what it was given."""

    def nobody(*_: object, **__: object) -> Any:
        raise requests.ConnectionError("https://example.com/?token=s3cret-token")

    def nowhere(*_: object, **__: object) -> Any:
        raise OSError("no route to s3cret-token")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", nobody)
    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    monkeypatch.setattr("socket.socket.connect", nowhere)
    monkeypatch.setenv("HOME", str(tmp_path))
    options: Options = {}
    for key, action in library.options(name).items():
        if not library.is_flag(action) and key not in ("auth_entrypoint", "api_protocol"):
            options[key] = hidden(SHAPED.get(name, {}).get(key, "s3cret-token"))
    for entrypoint in {"ovh": ["ovh-eu"], "zonomi": ["zonomi"]}.get(name, []):
        options["auth_entrypoint"] = entrypoint
    with pytest.raises(ProviderError) as failed:
        Lexicon(name, options).add_txt(RECORD)
    assert "s3cret" not in str(failed.value)
    assert failed.value.next
    assert isinstance(failed.value, ProviderBusy) or name in OTHERWISE


@pytest.mark.parametrize("name", USABLE)
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
