"""Who writes a certificate's records: ``[dns.NAME]`` and ``dns``."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certd import config as configuration
from certd.budget import Limit
from certd.config import ListenAddress
from tests.configuring import AGREED, Write, wrong

MAIN = '[dns.main]\nprovider = "exec"\nargv = ["/bin/true"]\n'
OTHER = MAIN.replace("main", "other")


def certificate(*names: str, **settings: str) -> str:
    lines = [f"names = [{', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}]"]
    lines += [f"{key} = {value}" for key, value in settings.items()]
    return "[certificate.www]\n" + "\n".join(lines) + "\n"


def chosen(write: Write, text: str) -> dict[str, str | None]:
    """The table for each name."""
    spec = configuration.load(write(AGREED + text)).certificates["www"]
    return {name.value: spec.dns_for(name.value) for name in spec.identifiers}


def test_an_only_table_needs_no_word(write: Write) -> None:
    found = chosen(write, MAIN + certificate("*.example.com", challenge='"dns-01"'))
    assert found == {"*.example.com": "main"}


def test_the_longest_name_that_fits_counts(write: Write) -> None:
    dns = '{ "*" = "main", "example.com" = "main", "Sub.Example.COM" = "other" }'
    names = ("example.com", "a.sub.example.com", "*.sub.example.com", "xsub.example.com", "b.net")
    text = MAIN + OTHER + certificate(*names, challenge='"dns-01"', dns=dns)
    assert chosen(write, text) == {
        "example.com": "main",
        "a.sub.example.com": "other",
        "*.sub.example.com": "other",
        "xsub.example.com": "main",
        "b.net": "main",
    }


def test_where_the_list_of_cas_is_wrong_only_that_is_told(write: Write) -> None:
    text = MAIN + certificate("*.example.com", challenge='"dns-01"', dns='"main"', ca='"test"')
    [told] = wrong(write(AGREED + text))
    assert "[certificate.www] ca: expected a list" in told


def test_all_settings_of_a_table(write: Write) -> None:
    text = (
        MAIN + 'zones = ["Example.com"]\nttl = 30\npropagation = "quorum"\ntimeout = 90\n'
        'settle = 0\nresolvers = ["192.0.2.1:5353"]\nrate = "20/1m"\n'
    )
    found = configuration.load(write(AGREED + text)).dns["main"]
    assert (found.provider, found.ttl, found.propagation) == ("exec", 30, "quorum")
    assert (found.timeout, found.settle) == (90.0, 0.0)
    assert found.resolvers == (ListenAddress("192.0.2.1", 5353),)
    assert found.rate == Limit(20, timedelta(minutes=1))
    assert found.may_touch("_acme-challenge.example.com")
    assert found.may_touch("example.com")
    assert not found.may_touch("_acme-challenge.notexample.com")


BY_DNS = {"challenge": '"dns-01"'}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param(
            '[dns.main]\nprovider = "exce"\n',
            '4: [dns.main] provider: no such provider: "exce": installed: ',
            id="no such provider",
        ),
        pytest.param(
            "[dns.main]\nttl = 5\n",
            "3: [dns.main] provider: missing: it says whom to ask for records; add provider = ",
            id="no provider",
        ),
        pytest.param(
            MAIN + "colour = 1\n", "6: [dns.main] colour: unknown key; known here: ", id="key"
        ),
        pytest.param(MAIN + "ttl = 0\n", "6: [dns.main] ttl: 0 is out of range", id="ttl"),
        pytest.param(
            MAIN + 'propagation = "most"\n', '6: [dns.main] propagation: unknown: "most"', id="p"
        ),
        pytest.param(
            MAIN + 'propagation = "wait"\n',
            '3: [dns.main] settle: missing: propagation = "wait" asks no name server',
            id="nothing is waited for",
        ),
        pytest.param(
            MAIN + 'zones = ["*.example.com"]\n',
            '6: [dns.main] zones: "*.example.com" is no zone',
            id="a wildcard as a zone",
        ),
        pytest.param(
            MAIN + 'rate = "20 a minute"\n',
            '6: [dns.main] rate: "20 a minute" is no rate: how many, in how many seconds, '
            'minutes, hours or days; write it as "20/1m"',
            id="rate",
        ),
        pytest.param(
            MAIN + certificate("a.example", dns='"mian"', **BY_DNS),
            '8: [certificate.www] dns: no such dns table: "mian": there are main; correct it, or '
            "add a table [dns.mian]",
            id="no such table",
        ),
        pytest.param(
            MAIN + OTHER + certificate("a.example", **BY_DNS),
            "9: [certificate.www] dns: missing: dns-01 needs to know who writes its records; there "
            'are main, other; add dns = "main"',
            id="which of two",
        ),
        pytest.param(
            MAIN + certificate("a.example", dns='"main"'),
            "8: [certificate.www] dns: nothing is written for it: its challenge is http-01; write "
            'challenge = "dns-01", or leave dns out',
            id="nothing to write",
        ),
        pytest.param(
            MAIN + certificate("a.example", "b.example", dns='{ "a.example" = "main" }', **BY_DNS),
            "7: [certificate.www] names: b.example has nobody who writes its records: dns names "
            'a.example; name its part of DNS too, or "*" for the rest',
            id="a name of nobody's",
        ),
        pytest.param(
            MAIN + certificate("2001:db8::1", **BY_DNS),
            "7: [certificate.www] names: 2001:db8::1 is an address: dns-01 proves names only",
            id="an address",
        ),
        pytest.param(
            '[dns.main]\nprovider = "duckdns"\ntoken = { env = "HOME" }\n'
            + certificate("a.duckdns.org", "*.a.duckdns.org", **BY_DNS),
            "7: [certificate.www] names: *.a.duckdns.org and a.duckdns.org cannot be in one "
            "certificate: duckdns has room for one value at a name, and each needs its own",
            id="two values where there is room for one",
        ),
        pytest.param(
            MAIN + certificate("*.a.example", challenge='["dns-01", "http-01"]'),
            "7: [certificate.www] names: *.a.example is a wildcard: CAs give one by a record in "
            "DNS only, not by http-01",
            id="a wildcard that may be left to http-01",
        ),
    ],
)
def test_a_mistake(write: Write, text: str, line: str) -> None:
    [found] = wrong(write(AGREED + text))
    assert found.startswith(f"certd.toml:{line}")
