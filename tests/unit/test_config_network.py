"""How a CA is reached, in its table: proxies, source_address, min_tls."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certd import config as configuration
from certd.config import CASettings, network
from certd.config.authorities import Proxy
from certd.errors import ConfigError
from tests.configuring import Write, wrong

OWN = '[ca.own]\ndirectory = "https://ca.example/dir"\n'
PASSWORD = 'proxy_password = { file = "password" }\n'
CANARY = "canary-51c0"


def own(path: Path) -> CASettings:
    return configuration.load(path).cas["own"]


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128)),
        ("http://Proxy.Example:8080/", Proxy("proxy.example", 8080)),
        ("http://192.0.2.1:3128", Proxy("192.0.2.1", 3128)),
        ("http://[2001:db8::1]:3128", Proxy("2001:db8::1", 3128)),
    ],
)
def test_a_proxy(write: Write, url: str, wanted: Proxy) -> None:
    assert own(write(f'{OWN}proxy = "{url}"\n')).proxy == wanted


@pytest.mark.parametrize(
    ("user", "wanted"), [("certd", "certd"), ("DOMAIN%5Ccertd", "DOMAIN\\certd"), ("a%40b", "a@b")]
)
def test_a_proxys_user(write: Write, user: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / "password").touch(mode=0o600)
    settings = own(write(f'{OWN}proxy = "http://{user}@proxy:3128"\n{PASSWORD}'))
    assert settings.proxy == Proxy("proxy", 3128, wanted)
    assert str(settings.proxy_password) == f'{{ file = "{tmp_path}/password" }}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(
            f'proxy = "http://certd:{CANARY}@proxy:3128"',
            "proxy: there is a password in the URL: whoever reads the file has it; "
            'write proxy = "http://user@proxy:3128", and the password\'s place in proxy_password',
            id="a password in the URL",
        ),
        pytest.param(
            f'proxy = "https://{CANARY}@proxy:3128"',
            "proxy: it is no proxy: certd speaks HTTP with a proxy, and CONNECT; write it as "
            '"http://proxy:3128"',
            id="TLS with the proxy",
        ),
        pytest.param(
            'proxy = "socks5://proxy:1080"', 'proxy: "socks5://proxy:1080" is no proxy', id="SOCKS"
        ),
        pytest.param('proxy = "proxy:3128"', 'proxy: "proxy:3128" is no proxy: it', id="no scheme"),
        pytest.param(
            'proxy = "http://proxy"',
            'proxy: the proxy has no port; write it as "http://proxy:3128"',
            id="no port",
        ),
        pytest.param(
            'proxy = "http://[2001:db8::1]"',
            'proxy: the proxy has no port; write it as "http://[2001:db8::1]:3128"',
            id="an IPv6 address without a port",
        ),
        pytest.param(
            'proxy = "http://proxy:99999"', 'proxy: "proxy:99999": bad port', id="such a port"
        ),
        pytest.param('proxy = "http://proxy:3128/path"', "proxy: ", id="a path"),
        pytest.param('proxy = "http://@proxy:3128"', "proxy: it is no proxy", id="nobody"),
        pytest.param('proxy = "http://[::1:3128"', "proxy: ", id="no URL"),
        pytest.param("proxy = 3128", "proxy: expected a string", id="a number"),
        pytest.param(
            f'proxy = "http://a%3Ab@proxy:3128"\n{PASSWORD}',
            "proxy: the proxy's user cannot be sent: it has a colon in it",
            id="a colon",
        ),
        pytest.param(
            'proxy = "http://certd@proxy:3128"',
            'proxy: there is no password for "certd"; add proxy_password = { file = ',
            id="a user alone",
        ),
        pytest.param(
            f'proxy = "http://proxy:3128"\n{PASSWORD}',
            "proxy_password: there is no user that it belongs to; write "
            'proxy = "http://certd@proxy:3128"',
            id="a password alone",
        ),
        pytest.param(
            'source_address = "eth0"',
            'source_address: "eth0" is no IP address: it is to be one of this machine\'s; write',
            id="an interface",
        ),
        pytest.param(
            'min_tls = "1.1"', 'min_tls: unknown: "1.1"; did you mean 1.', id="an old version"
        ),
        pytest.param("min_tls = 1.3", "min_tls: ", id="a number for a version"),
        pytest.param('proxi = "x"', "proxi: unknown key; did you mean proxy?", id="nearly"),
    ],
)
def test_mistakes(write: Write, lines: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "password").touch(mode=0o600)
    [line] = wrong(write(f"{OWN}{lines}\n"))
    assert line.partition(": ")[2].startswith(f"[ca.own] {said}")
    assert CANARY not in line


@given(st.text(max_size=40) | st.from_regex(r"\Ahttp://[a@:%\[\]./?#0-9]{0,30}\Z"))
def test_any_text_is_a_proxy_or_a_mistake(text: str) -> None:
    said = ""
    found: tuple[str, int, str | None] = ("proxy", 3128, None)
    try:
        found = network.proxy(text)
    except ConfigError as error:
        said = str(error)
    host, port, user = found
    assert said.isprintable()
    assert host
    assert 0 < port < 65536
    assert user != ""


def test_a_plain_password_is_warned_of(write: Write) -> None:
    path = write(f'{OWN}proxy = "http://me@proxy:3128"\nproxy_password = "{CANARY}"\n')
    config = configuration.load(path)
    [warning] = config.warnings
    assert "[ca.own] proxy_password: the secret stands in the configuration" in str(warning)
    assert CANARY not in repr(config)


def test_an_address_that_this_machine_lacks_is_no_mistake(write: Write) -> None:
    www = '[certificate.www]\nnames = ["www.example.com"]\nca = ["own"]\n'
    config = configuration.load(write(f'{OWN}source_address = "192.0.2.7"\n{www}'))
    assert config.cas["own"].source_address == "192.0.2.7"
    [lack] = config.lacking_for(["www"])
    assert str(lack) == (
        "certd.toml:3: [ca.own] source_address: 192.0.2.7 is no address of this machine: Cannot "
        "assign requested address; correct it, or give this machine the address"
    )


@pytest.mark.parametrize(("text", "wanted"), [("127.0.0.2", "127.0.0.2"), ("::0:1", "::1")])
def test_an_address_to_ask_from(write: Write, text: str, wanted: str) -> None:
    config = configuration.load(write(f'{OWN}source_address = "{text}"\n'))
    assert config.cas["own"].source_address == wanted
    assert not config.lacking


def test_another_way_to_a_ca_is_worth_another_try_and_none_is_not(
    write: Write, tmp_path: Path
) -> None:
    """What failed with the CA need not wait (``table_digests``); an upgrade changes nothing."""
    (tmp_path / "password").touch(mode=0o600)
    digests = [
        configuration.load(write(OWN + lines)).table_digests["ca own"]
        for lines in (
            "",
            'min_tls = "1.2"\n',
            'min_tls = "1.3"\n',
            'source_address = "127.0.0.2"\n',
            'proxy = "http://proxy:3128"\n',
            f'proxy = "http://me@proxy:3128"\n{PASSWORD}',
            f'proxy = "http://me@proxy:3128"\n{PASSWORD.replace("file", "env")}',
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == len(digests) - 1
    before = (
        "(CASettings(name='own', directory='https://ca.example/dir', ca_bundle=None, "
        "agree_tos=False, staging=None, limits=Limits(orders=None, domain=None, same=None, "
        "failures=None, renewals_exempt=False)), ())"
    )
    assert digests[0] == hashlib.sha256(before.encode()).hexdigest()
