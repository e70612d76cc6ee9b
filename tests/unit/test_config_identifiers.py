"""The names and addresses that can be certified, in their one form."""

from __future__ import annotations

import pytest

from certd.config.identifiers import identifier
from certd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("WWW.Example.COM.", "dns www.example.com"),
        ("localhost", "dns localhost"),
        ("*.example.com", "dns *.example.com"),
        ("bücher.example", "dns xn--bcher-kva.example"),
        ("BÜCHER.example.", "dns xn--bcher-kva.example"),
        ("*.bücher.example", "dns *.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "dns xn--bcher-kva.example"),
        ("192.0.2.1", "ip 192.0.2.1"),
        ("2001:DB8:0:0::1", "ip 2001:db8::1"),
        ("a" * 63 + ".example", "dns " + "a" * 63 + ".example"),
    ],
)
def test_an_identifier_has_one_form(text: str, wanted: str) -> None:
    found = identifier(text)
    assert f"{found.type} {found.value}" == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", " ", "a b.example", "a..example", ".example.com", "example.com..", "-a.example"),
        *("a-.example", "a_b.example", "a" * 64 + ".example", "a." * 127 + "example", "ü" * 300),
        *("192.0.2.256", "1.2.3", "[2001:db8::1]", "fe80::1%eth0", "*.192.0.2.1", "*.com", "*"),
        *("a.*.example", "a*.example.com", "*.*.example", "ops@example.com", "example.com:443"),
        *("https://example.com", "xn--\x7f.example", "xn--99999999.example", "a\n.example", "☃‍.x"),
    ],
)
def test_what_is_no_identifier(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        identifier(text)
    assert str(caught.value).isprintable()
