"""TXT data in the form of zone files."""

from __future__ import annotations

import pytest
from certd_providers.txt import quoted, unquoted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("abc", '"abc"', id="plain"),
        pytest.param("", '""', id="empty"),
        pytest.param("a; b", '"a; b"', id="a semicolon starts no comment"),
        pytest.param('say "a\\b"', r'"say \"a\\b\""', id="quotes and backslashes"),
        pytest.param("é", r'"\195\169"', id="bytes that are no ASCII"),
        pytest.param("x" * 256, f'"{"x" * 255}" "x"', id="longer than one string holds"),
    ],
)
def test_a_value_in_quotes_and_back(value: str, text: str) -> None:
    assert quoted(value) == text
    assert unquoted(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("v=spf1 -all", "v=spf1 -all", id="no quotes"),
        pytest.param('"a" "b"', "ab", id="two strings"),
        pytest.param(r'"\065\;"', "A;", id="escapes that nobody needs"),
        pytest.param('"open', '"open', id="a quote that never ends"),
        pytest.param(r'"\999"', r'"\999"', id="a byte that is none"),
        pytest.param(r'"\255"', "\ufffd", id="not UTF-8"),
    ],
)
def test_what_others_wrote(text: str, value: str) -> None:
    assert unquoted(text) == value
