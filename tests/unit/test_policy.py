"""Names that a public CA refuses: known before it is asked, and told with their lines."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from certd import config as configuration
from certd.config.identifiers import identifier
from certd.config.policy import ANY_PUBLIC, LETS_ENCRYPT_NAMES, NamePolicy, objections
from certd.engine.node import Node
from certd.store import Store
from tests.configuring import Write


def whys(
    *names: str, policy: NamePolicy = LETS_ENCRYPT_NAMES, profile: str | None = None
) -> list[str]:
    found = objections([identifier(name) for name in names], policy, profile)
    return [f"{item.what}: {item.why}" for item in found]


@pytest.mark.parametrize(
    "name",
    [
        *("certd.dev", "www.certd.dev", "a.b.c.d.e.f.g.h.certd.dev", "*.certd.dev"),
        *("github.io", "me.github.io", "certd.co.uk", "city.kawasaki.jp", "www.ck"),
        *("bücher.de", "xn--bcher-kva.de", "certd.рф", "xn--i-7iq.ws", "a-b.de", "a--b.de"),
        *("notexample.com", "example.com.de", "mytest.dev", "x" * 63 + ".de"),
    ],
)
def test_what_can_be_certified(name: str) -> None:
    assert whys(name) == []


RESERVED = "has -- in third place, which is reserved"
SUFFIX = "public suffix, below which others register names"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("printer", "it has no dot"),
        ("localhost", ".localhost is this machine"),
        ("a.localhost", ".localhost is this machine"),
        ("www.example.com", ".example.com is for documentation"),
        ("*.example.org", ".example.org is for documentation"),
        ("www.example", ".example is for documentation"),
        ("nas.local", ".local is for multicast DNS"),
        ("db.internal", ".internal is for private networks"),
        ("router.home.arpa", ".home.arpa is for networks at home"),
        ("1.2.0.192.in-addr.arpa", ".in-addr.arpa is for the reverse lookup"),
        ("8.b.d.0.1.0.0.2.ip6.arpa", ".ip6.arpa is for the reverse lookup"),
        ("abc.onion", ".onion is of Tor"),
        ("a.test", ".test is for tests"),
        ("a.invalid", ".invalid is never a name"),
        ("a.alt", ".alt is not of the DNS"),
        ("intranet.corp", "there is no top-level domain .corp"),
        ("nas.lan", "there is no top-level domain .lan"),
        ("co.uk", f"it is a {SUFFIX}"),
        ("*.co.uk", f"it is a wildcard of a {SUFFIX}"),
        ("foo.kawasaki.jp", f"it is a {SUFFIX}"),
        ("xn--p1ai", "it has no dot"),
        ("ab--cd.de", f"the label ab--cd {RESERVED}"),
        ("ok.ab--cd.de", f"the label ab--cd {RESERVED}"),
        ("*.ab--cd.de", f"the label ab--cd {RESERVED}"),
        ("xn--" + "cafe\u0301".encode("punycode").decode() + ".de", "normal form (NFC)"),
    ],
)
def test_what_no_public_ca_certifies(name: str, why: str) -> None:
    for policy in (ANY_PUBLIC, LETS_ENCRYPT_NAMES):
        found = whys(name, policy=policy)
        assert len(found) == 1
        assert why in found[0]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        *(("10.0.0.1", "private"), ("172.31.255.255", "private"), ("192.168.1.1", "private")),
        *(("127.0.0.1", "loopback"), ("::1", "loopback"), ("169.254.1.1", "link-local")),
        *(("100.64.0.1", "shared"), ("192.0.2.1", "documentation"), ("0.0.0.0", "unspecified")),
        *(("224.0.0.1", "multicast"), ("255.255.255.255", "IANA"), ("192.88.99.1", "IANA")),
        *(("192.31.196.1", "IANA"), ("198.19.0.1", "benchmarks"), ("203.0.113.9", "documentation")),
        *(("fd00::1", "private"), ("fe80::1", "link-local"), ("2001:db8::1", "documentation")),
        *(
            ("::ffff:8.8.8.8", "within IPv6"),
            ("2002:808:808::1", "within IPv6"),
            ("ff02::1", "mult"),
        ),
        *(("2001:20::1", "IANA"), ("3fff::1", "documentation"), ("5f00::1", "IANA")),
    ],
)
def test_which_addresses_are_not_of_the_internet(address: str, why: str) -> None:
    for policy in (ANY_PUBLIC, LETS_ENCRYPT_NAMES):
        [found] = whys(address, policy=policy, profile="shortlived")
        assert why in found


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:4860:4860::8888", "2a00::1"]
)
def test_an_address_takes_its_profile_where_there_is_one(address: str) -> None:
    assert whys(address, policy=ANY_PUBLIC) == []
    assert whys(address, profile="shortlived") == []
    [found] = whys(address)
    assert found == (
        f"{identifier(address)}: only certificates of the profile shortlived have IP addresses"
    )


def many(count: int) -> Sequence[str]:
    return [f"n{number}.certd.dev" for number in range(count)]


@pytest.mark.parametrize(
    ("count", "profile", "why"),
    [
        (100, None, ""),
        (101, None, "101 names: at most 100 are allowed in one certificate"),
        (100, "classic", ""),
        (25, "shortlived", ""),
        (26, "shortlived", "26 names: at most 25 are allowed in one certificate of the profile sh"),
        (26, "tlsserver", "26 names: at most 25 are allowed in one certificate of the profile tls"),
    ],
)
def test_how_many_names(count: int, profile: str | None, why: str) -> None:
    found = whys(*many(count), profile=profile)
    assert "".join(found).startswith(why)
    assert bool(found) is bool(why)
    assert whys(*many(count), policy=ANY_PUBLIC, profile=profile) == []


def test_lets_encrypt_counts_ten_labels() -> None:
    long = "a.b.c.d.e.f.g.h.i.certd.dev"
    assert whys(long) == [f"{long}: it has more than 10 labels"]
    assert len(whys(f"*.{long.removeprefix('a.')}")) == 1
    assert whys(long, policy=ANY_PUBLIC) == []


def test_a_name_that_a_wildcard_covers_is_redundant() -> None:
    names = ["certd.dev", "*.certd.dev", "www.certd.dev", "a.b.certd.dev", "*.b.certd.dev"]
    assert whys(*names) == [
        "www.certd.dev: *.certd.dev covers it",
        "a.b.certd.dev: *.b.certd.dev covers it",
    ]
    assert whys(*names, policy=ANY_PUBLIC) == []


# In a configuration

NAMES = """\
[ca.letsencrypt]
agree_tos = true

[ca.own]
directory = "https://ca.example/dir"
agree_tos = true

[certificate.www]
names = [
  "www.certd.dev",
  "nas.local",
  "10.0.0.1",
]
ca = ["own", "letsencrypt"]

[certificate.inside]
names = ["nas.local", "localhost", "10.0.0.1", "ab--cd", "co.uk"]
ca = ["own"]
"""


def test_every_name_is_told_with_its_line_and_a_private_ca_is_left_to_itself(write: Write) -> None:
    config = configuration.load(write(NAMES))
    found = configuration.refused_names(config, config.certificates)
    refused = "[certificate.www] names: letsencrypt does not certify"
    todo = "correct it, or use a CA of your own for it"
    assert [str(finding) for finding in found] == [
        f"certd.toml:11: {refused} nas.local: .local is for multicast DNS; {todo}",
        f"certd.toml:12: {refused} 10.0.0.1: the address is private (RFC 1918), and not of the "
        f"internet; {todo}",
    ]
    assert configuration.refused_names(config, ["inside"]) == []


def test_a_ca_of_ones_own_is_told_nothing_and_a_configuration_without_a_file_has_no_lines(
    tmp_path: Path,
) -> None:
    names = ["nas.local", "10.0.0.1"]
    tables = {
        "certd": {"state": str(tmp_path / "state")},
        "certificate": {
            "inside": {"names": [*names, "*.lan.internal"], "ca": ["local"]},
            "both": {"names": names[:1], "ca": ["local", "letsencrypt"]},
        },
    }
    config = configuration.load_tables(tables)
    [found] = configuration.refused_names(config, config.certificates)
    assert str(found).startswith("[certificate.both] names: letsencrypt does not certify nas.local")


def test_the_fallback_profile_counts_too(write: Write) -> None:
    profiles = 'profile = "shortlived"\nfallback_profile = "classic"\n'
    path = write(
        f"[ca.letsencrypt]\nagree_tos = true\n[certificate.a]\n{profiles}names = {list(many(30))}\n"
    )
    config = configuration.load(path)
    [found] = configuration.refused_names(config, config.certificates)
    assert "30 names: at most 25 are allowed in one certificate of the profile shortlived" in str(
        found
    )
    path.write_text(path.read_text().replace("classic", "tlsserver"))
    config = configuration.load(path)
    assert len(configuration.refused_names(config, config.certificates)) == 2


def test_lines_are_told_of_the_file_that_was_read_only(write: Write) -> None:
    path = write(NAMES)
    config = configuration.load(path)
    path.write_text("# another\n")
    found = configuration.refused_names(config, config.certificates)
    assert [finding.line for finding in found] == [None, None]
    path.unlink()
    assert configuration.refused_names(config, config.certificates) == found


def test_a_known_directory_is_public_by_any_name(write: Write) -> None:
    path = write(
        '[ca.le]\ndirectory = "https://acme-staging-v02.api.letsencrypt.org/directory"\n'
        f'[certificate.a]\nca = ["le"]\nnames = {list(many(101))}\n'
        '[ca.letsencrypt]\ndirectory = "https://localhost:14000/dir"\n'
        '[certificate.b]\nnames = ["www.example.com", "localhost"]\n'
    )
    config = configuration.load(path)
    [found] = configuration.refused_names(config, config.certificates)
    assert str(found).startswith("certd.toml:5: [certificate.a] names: le does not certify 101 nam")


@pytest.mark.parametrize("form", ["a file", "tables of a program"])
def test_a_daemon_is_not_stopped_by_it(
    form: str, write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration.load(write(NAMES))
    if form != "a file":
        config = configuration.load_tables(tomllib.loads(NAMES))
    store = Store.open(tmp_path / "state")
    node = Node(config, store, lambda name, text: None)
    try:
        with caplog.at_level(logging.WARNING):
            node.follow(config)
        assert "letsencrypt does not certify nas.local" in caplog.text
    finally:
        node.stop()
        store.close()
