"""The tables of distribution: what they become, and what is wrong with wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from certd import config as configuration
from certd.config import (
    CASettings,
    ClientSettings,
    DistributionSettings,
    ListenAddress,
)
from certd.config.authorities import HubSettings
from tests.configuring import Write, wrong

HUB = """\
[distribution]
listen = ["192.0.2.1:8443", "[::1]:8443"]
certificate = "hub"
clients = "local"
[certificate.hub]
names = ["hub.example.com"]
ca = ["local"]
[certificate.www]
names = ["www.example.com"]
ca = ["local"]
key = ["ec-p256", "rsa-2048"]
[certificate.mail]
names = ["mail.example.com"]
ca = ["local"]
"""
PULLER = """\
[ca.hub]
type = "certd"
server = "https://hub.example.com:8443/"
certificate = "fullchain.pem"
key = "privkey.pem"
[certificate.www]
names = ["www.example.com"]
ca = ["hub"]
"""


def test_a_hub(write: Write) -> None:
    clients = '[client.web1]\nname = "Web1.example.com"\ncertificates = ["www"]\n'
    clients += '[client."web2.example.com"]\ncertificates = ["mail", "www.rsa"]\n'
    config = configuration.load(write(HUB + clients))
    assert config.distribution == DistributionSettings(
        (ListenAddress("192.0.2.1", 8443), ListenAddress("::1", 8443)), "hub", "local"
    )
    assert config.clients == {
        "web1": ClientSettings("web1", "web1.example.com", ("www", "www.rsa")),
        "web2.example.com": ClientSettings(
            "web2.example.com", "web2.example.com", ("mail", "www.rsa")
        ),
    }


def test_one_that_pulls(write: Write, tmp_path: Path) -> None:
    bring_pair(tmp_path)
    config = configuration.load(write(PULLER))
    pair = HubSettings(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    assert config.cas == {"hub": CASettings("hub", "https://hub.example.com:8443", hub=pair)}
    assert config.certificates["www"].pulled
    assert config.pulled("hub") == ["www"]
    assert config.lacking == ()
    # Nobody is to be asked for anything else, and nothing to be answered.
    assert (config.unaccepted, config.own_cas, config.listens) == ([], [], False)
    assert not config.is_challenged("www")
    # Another hub, or another certificate to be known by, is worth another try.
    other = configuration.load(write(PULLER.replace("privkey", "fullchain")))
    assert other.table_digests["ca hub"] != config.table_digests["ca hub"]


def test_what_this_machine_lacks(write: Write, tmp_path: Path) -> None:
    (tmp_path / "fullchain.pem").touch()
    config = configuration.load(write(PULLER))
    [lack] = config.lacking_for(["www"])
    assert "[ca.hub] key: there is no file" in str(lack)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            HUB.replace('listen = ["192.0.2.1:8443", "[::1]:8443"]\n', ""),
            "1: [distribution] listen: missing: it says where the other machines ask; add listen",
            id="no address",
        ),
        pytest.param(
            HUB.replace('certificate = "hub"', 'certificate = "hup"'),
            '3: [distribution] certificate: no such certificate: "hup"; correct it',
            id="no such certificate",
        ),
        pytest.param(
            HUB.replace('clients = "local"', ""),
            "1: [distribution] clients: clients and roots are both missing: it is to be known",
            id="whose clients",
        ),
        pytest.param(
            HUB.replace('clients = "local"', 'clients = "letsencrypt"'),
            '4: [distribution] clients: "letsencrypt" is no CA of certd\'s own; name one, or',
            id="a public CA's clients",
        ),
        pytest.param(
            HUB.replace('["hub.example.com"]\n', '["hub.example.com"]\nusage = ["client"]\n'),
            '3: [distribution] certificate: "hub" cannot be shown by certd: it is for clients only',
            id="for clients only",
        ),
        pytest.param(
            HUB + '[client.web1]\ncertificates = ["ww"]',
            '16: [client.web1] certificates: no such certificate: "ww"; did you mean www?',
            id="what is not there",
        ),
        pytest.param(
            HUB + "[client.web1]\ncertificates = []",
            "16: [client.web1] certificates: the list is empty; name at least one",
            id="nothing",
        ),
        pytest.param(
            HUB + '[client.web1]\nname = "*.example.com"\ncertificates = ["www"]',
            '16: [client.web1] name: "*.example.com" is not a DNS name of one machine; name one',
            id="a wildcard",
        ),
        pytest.param(
            HUB + '[client.we_b]\ncertificates = ["www"]',
            "15: [client.we_b]: ",
            id="a name that is none",
        ),
        pytest.param(
            HUB + '[client.a]\nname = "b"\ncertificates = ["www"]\n[client.b]\n'
            'certificates = ["mail"]',
            '18: [client.b]: "b" is the name of "a" too; put the certificates of both',
            id="a name twice",
        ),
        pytest.param(
            HUB[HUB.index("[certificate.hub]") :] + '[client.web1]\ncertificates = ["www"]',
            "11: [client.web1]: there is no [distribution]: nobody would answer this client",
            id="clients of nobody",
        ),
        pytest.param(
            '[ca.x]\ndirectory = "https://ca.example/"\nserver = "https://hub.example:1"',
            "3: [ca.x] server: does not belong here: no other certd is asked; leave it out",
            id="a server of a CA",
        ),
    ],
)
def test_a_mistake(write: Write, text: str, line: str) -> None:
    [found] = wrong(write(text))
    assert found.startswith(f"certd.toml:{line}")


@pytest.mark.parametrize(
    ("right", "wrong_one", "line"),
    [
        (":8443/", ":8443/v1", '3: [ca.hub] server: "https://hub.example.com:8443/v1" is not the'),
        (
            "https",
            "http",
            '3: [ca.hub] server: "http://hub.example.com:8443/" is not the https URL',
        ),
        ('key = "privkey.pem"', "", "1: [ca.hub] key: missing: it belongs to the certificate; add"),
        (
            "type",
            "agree_tos = true\ntype",
            "2: [ca.hub] agree_tos: does not belong here: what another certd has is ordered there",
        ),
        (
            '["hub"]',
            '["hub", "letsencrypt"]',
            "8: [certificate.www] ca: hub stands alone: what comes from hub is ordered there, and "
            'nowhere else; write ca = ["hub"]',
        ),
        (
            "names",
            'key = ["ec-p256", "rsa-2048"]\nnames',
            "7: [certificate.www] key: does not belong here: hub orders it; leave it out",
        ),
        (
            "names",
            'challenge = "dns-01"\nnames',
            "7: [certificate.www] challenge: does not belong here: hub orders it; leave it out",
        ),
    ],
)
def test_a_mistake_of_one_that_pulls(
    write: Write, tmp_path: Path, right: str, wrong_one: str, line: str
) -> None:
    bring_pair(tmp_path)
    [found] = wrong(write(PULLER.replace(right, wrong_one)))
    assert found.startswith(f"certd.toml:{line}")


def bring_pair(folder: Path) -> None:
    for name in ("fullchain.pem", "privkey.pem"):
        (folder / name).touch()


def test_a_hub_certifies_clients_too(write: Write) -> None:
    config = configuration.load(write(PULLER + 'usage = ["client"]\n'))
    assert config.certificates["www"].usages == ("client",)
