"""``certd dns``: an account tried at its zones, and records that stay, at real name servers."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from certd import contract
from certd.testing.bind import Bind
from tests.http_server import Request, Response, serving
from tests.site import Site
from tests.zones import Internet, Watched, internet, issued, journal

ZONE = "example.test"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    with internet(tmp_path_factory.mktemp("net")) as net:
        yield net


@pytest.fixture
def site(net: Internet, tmp_path: Path) -> Site:
    return net.site(tmp_path / "site")


@pytest.fixture
def bind(net: Internet) -> Bind:
    return net.bind


@pytest.fixture
def watched(net: Internet) -> Watched:
    return Watched(net.bind)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"{secrets.token_hex(4)}.example.test"


def publish_lasting(bind: Bind, printed: str) -> None:
    """By hand, as the operator does: ``NAME. IN TXT "VALUE"``."""
    found = re.fullmatch(r'(\S+)\. IN TXT "(.+)"', printed)
    assert found
    key = dns.tsig.Key(bind.key, bind.secret, bind.algorithm)
    update = dns.update.UpdateMessage("example.test", keyring=key)
    update.add(dns.name.from_text(found[1]), 60, "TXT", f'"{found[2]}"')
    answer = dns.query.tcp(update, "127.0.0.1", timeout=5, port=bind.port)
    assert answer.rcode() == dns.rcode.NOERROR


def test_a_record_that_stays_is_told_looked_for_and_then_enough(
    site: Site, name: str, bind: Bind
) -> None:
    site.certificate("www", name, f"*.{name}", challenge="dns-persist-01")
    told = site.certd("dns", "persist", "www")
    assert told.returncode == 1, told.stderr
    record, state, todo = told.stdout.splitlines()
    assert record.startswith(f'_validation-persist.{name}. IN TXT "pebble.letsencrypt.org; account')
    assert record.endswith('; policy=wildcard"')
    assert state.startswith("  not published: 0 of 2 name servers of example.test have it")
    assert todo == "publish 1 record, and call this again"

    begun = time.monotonic()
    refused = site.certd("renew", "www")
    assert time.monotonic() - begun < 15, "nobody is waited for"
    assert refused.returncode == 1
    assert f"no record at _validation-persist.{name} allows this account" in refused.stdout
    assert "publish what `certd dns persist www` prints" in refused.stdout

    publish_lasting(bind, record)
    watched = Watched(bind)
    told = site.certd("dns", "persist", "www")
    assert (told.returncode, told.stdout.splitlines()) == (0, [record, "  published"])
    site.renew("www")
    assert issued(site) == {name, f"*.{name}"}
    assert "version 2" in site.renew("www", "--force").stdout
    assert watched.names() == []
    assert journal(site) == []


def test_a_record_that_stays_is_for_what_it_says(site: Site, name: str, bind: Bind) -> None:
    """Not for the wildcard, where the operator has published that of the name only."""
    site.certificate("www", name, challenge="dns-persist-01")
    publish_lasting(bind, site.certd("dns", "persist", "www").stdout.splitlines()[0])
    site.renew("www")
    site.certificate("www", name, f"*.{name}", challenge="dns-persist-01")
    told = site.certd("dns", "persist", "www")
    assert told.returncode == 1
    assert "has another" in told.stdout
    assert site.certd("renew", "www").returncode == 1
    assert issued(site) == {name}


def test_an_address_has_no_record_that_stays(site: Site, name: str) -> None:
    """A certificate of names and addresses is proved by another challenge so far."""
    site.certificate("www", name, "127.0.0.1").certificate("ip", "127.0.0.1")
    told = site.certd("dns", "persist", "www")
    assert told.returncode == 1, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()] == [
        f"_validation-persist.{name}.",
        "not",
        "publish",
    ]
    refused = site.certd("dns", "persist", "ip")
    assert refused.returncode == 2
    assert "ip is for addresses only" in refused.stderr


def test_an_account_is_tried_at_its_zone(site: Site, watched: Watched) -> None:
    site.write()
    done = site.certd("dns", "test", "main", "example.test")
    assert done.returncode == 0, done.stdout + done.stderr
    first, *checks, last = done.stdout.splitlines()
    assert first.startswith("trying _acme-challenge.certd-test-")
    assert checks == [f"good  {check.__doc__}" for check in contract.CHECKS]
    assert last == "[dns.main] can be relied on for example.test"
    assert watched.names()
    assert journal(site) == []


def test_a_wrong_credential_is_tried_where_that_is_asked_for(site: Site, watched: Watched) -> None:
    """And is not what certd remembers of the account."""
    site.certificate("www", f"wrong.{ZONE}", challenge="dns-01", dns="main")
    done = site.certd("dns", "test", "--wrong-credential", "main", ZONE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good  a wrong credential is refused, and told as such" in done.stdout.splitlines()
    assert journal(site) == []
    assert watched.names()
    site.renew("www")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        pytest.param(401, "good  a wrong credential is refused, and told as such", id="refused"),
        pytest.param(400, "told as something else", id="told as a mistake"),
        pytest.param(200, "it was taken", id="taken"),
    ],
)
def test_a_service_is_asked_once_with_a_wrong_credential(
    site: Site, status: int, said: str
) -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: Request) -> Response:
        _, _, login = request.headers["Authorization"].partition(" ")
        asked.append((base64.b64decode(login).decode(), request.path))
        stranger = request.json["fqdn"].endswith("account.invalid.")
        good = asked[-1][0] == "me:s3cret-token" and not stranger
        return Response(200 if good else 404 if stranger else status)

    with serving(answer) as url:
        table = {"provider": "httpreq", "url": url, "username": "me", "password": "s3cret-token"}
        site.tables["dns.web"] = {**table, "propagation": "wait", "settle": 0}
        site.write()
        done = site.certd("dns", "test", "--wrong-credential", "web", ZONE)
    assert done.returncode == (0 if status == 401 else 1), done.stdout + done.stderr
    assert said in done.stdout
    [(wrong, path)] = [one for one in asked if one[0] != "me:s3cret-token"]
    assert re.fullmatch(r"me:[a-z]\d[a-z]{4}-[a-z]{5}", wrong)
    assert path == "/present"
    assert asked[-1] == ("me:s3cret-token", "/cleanup"), "whatever was written is removed"
    assert "s3cret" not in done.stdout + done.stderr
    assert journal(site) == []


def test_a_wrong_credential_needs_a_secret_to_be_wrong(site: Site, watched: Watched) -> None:
    site.tables["dns.main"] = {"provider": "manual"}
    site.write()
    done = site.certd("dns", "test", "--wrong-credential", "main", ZONE)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "there is no secret to be wrong" in done.stderr
    assert watched.names() == []


def test_an_account_is_tried_at_a_name_within_its_zone(site: Site, watched: Watched) -> None:
    site.write()
    done = site.certd("dns", "test", "main", "shop.example.test")
    assert done.returncode == 0, done.stdout + done.stderr
    note = "note: DNS knows no zone shop.example.test: it is in the zone example.test"
    assert note in done.stdout
    assert all(one.endswith(".shop.example.test") for one in watched.names())


def test_a_name_server_that_lags_behind_is_named(site: Site, bind: Bind, watched: Watched) -> None:
    site.tables["dns.main"]["timeout"] = 0.5
    site.write()
    bind.pause_secondary()
    try:
        done = site.certd("dns", "test", "main", "example.test")
    finally:
        bind.resume_secondary()
    assert done.returncode == 1
    assert "ns2.example.test at 127.0.0.2 does not answer instead of" in done.stdout
    assert "[dns.main] cannot be relied on for example.test: 1 check failed" in done.stdout
    watched.names()

    site.tables["dns.main"]["propagation"] = "wait"
    site.write()
    done = site.certd("dns", "test", "main", "example.test")
    assert done.returncode == 0, done.stdout
    assert "the name servers are not asked" in done.stdout


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        pytest.param(
            {},
            ["mian", "example.test"],
            ["there is no table [dns.mian]: configured: main, other"],
            id="a table that is not there",
        ),
        pytest.param(
            {"zones": ["keys.test"]},
            ["main", "example.test"],
            ["[dns.main] is bound to keys.test"],
            id="an account that is bound elsewhere",
        ),
        pytest.param(
            {},
            ["main", "strange.test"],
            [
                "REFUSED: the key certd-update may not change it",
                "update-policy",
                "cannot be relied",
            ],
            id="a zone that the key may not change",
        ),
        pytest.param(
            {},
            ["main", "example.nowhere"],
            ["example.nowhere is in no zone: DNS knows none above it"],
            id="a zone that is in no DNS",
        ),
        pytest.param(
            {},
            ["main", "*.example.test"],
            ["*.example.test is no zone", "name a zone, such as example.com"],
            id="a wildcard",
        ),
        pytest.param(
            {"secret": "bm90IHRoZSBzZWNyZXQgb2YgdGhlIGtleSBhdCBhbGw="},
            ["main", "example.test"],
            ["its secret of the key certd-update is another one", "compare key, secret"],
            id="a secret that the server has otherwise",
        ),
        pytest.param(
            {"key": "nobody"},
            ["main", "example.test"],
            ["it has no key nobody", "compare key, secret"],
            id="a key that the server does not have",
        ),
        pytest.param(
            {"secret": {"file": "no-such-file"}},
            ["main", "example.test"],
            ["no-such-file"],
            id="a secret that is not there",
        ),
        pytest.param(
            {"server": "127.0.0.1:1"},
            ["main", "example.test"],
            ["127.0.0.1:1", "Connection refused", "see whether it takes TCP from here"],
            id="a server that is not there",
        ),
    ],
)
def test_an_account_that_cannot_do_it_is_explained(
    change: Mapping[str, object],
    words: list[str],
    said: list[str],
    site: Site,
    watched: Watched,
) -> None:
    site.tables["dns.main"].update({"timeout": 1.0, **change})
    site.write()
    done = site.certd("dns", "test", *words)
    text = done.stdout + done.stderr
    print(text)
    assert done.returncode in (1, 2)
    assert "Traceback" not in text
    for words_of_it in said:
        assert words_of_it in text
    assert "bm90IHRoZSB" not in text
    assert watched.names() == []
