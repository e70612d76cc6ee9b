"""Strict-Transport-Security as browsers read it (RFC 6797), compared with what is wanted."""

from __future__ import annotations

import pytest

from certd.config.hsts import HSTS, parse, wanted
from certd.errors import ConfigError

BOTH = frozenset({"includeSubDomains", "preload"})
SUBDOMAINS = frozenset({"includeSubDomains"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("max-age=31536000", HSTS(31536000)),
        ("max-age=31536000; includeSubDomains", HSTS(31536000, SUBDOMAINS)),
        ('MAX-AGE="1" ;INCLUDESUBDOMAINS; preload;', HSTS(1, BOTH)),
        (";; max-age = 0 ;", HSTS(0)),
        ('max-age=1; later="a; \\"b"; other', HSTS(1)),
    ],
)
def test_a_header_is_read_as_browsers_do(text: str, found: HSTS) -> None:
    assert parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "includeSubDomains", "max-age", "max-age=", "max-age=one", "max-age=-1"),
        *("max-age=1; max-age=2", "max-age=1, preload", 'max-age="1', "max-age=1; a b"),
        *("max-age=" + "9" * 30, "x" * 5000, ";" * 5000, "max-age=１"),
    ],
)
def test_what_a_browser_ignores_is_no_header(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_what_is_wanted_is_not_misspelt() -> None:
    assert str(wanted("max-age=1; includesubdomains")) == "max-age=1; includeSubDomains"
    with pytest.raises(ConfigError, match='unknown directive "includesubdomain"'):
        wanted("max-age=1; includeSubDomain")


@pytest.mark.parametrize(
    ("served", "lacks"),
    [
        (HSTS(100, SUBDOMAINS), ""),
        (HSTS(101, SUBDOMAINS), ""),
        (HSTS(99, SUBDOMAINS), "max-age is 99, and 100 is wanted"),
        (HSTS(100), "includeSubDomains is missing"),
        (HSTS(100, BOTH), "preload is there, and not wanted"),
    ],
)
def test_a_longer_time_is_as_good_other_directives_are_not(served: HSTS, lacks: str) -> None:
    assert HSTS(100, SUBDOMAINS).lacks(served) == lacks
