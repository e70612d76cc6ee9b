"""Pieces of configurations, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from certd import config as configuration
from certd.config import BadConfig

AGREED = "[ca.letsencrypt]\nagree_tos = true\n"
WWW = '[certificate.www]\nnames = ["www.example.com"]\n'

Write = Callable[[str], Path]


def wrong(path: Path) -> list[str]:
    """What is wrong with it, a line for each mistake."""
    with pytest.raises(BadConfig) as caught:
        configuration.load(path)
    lines = str(caught.value).splitlines()
    assert lines == [str(finding) for finding in caught.value.findings]
    return lines


def places(lines: list[str]) -> list[str]:
    """Of each finding ``line: [table] key``."""
    return [": ".join(line.split(": ", 2)[:2]).removeprefix("certd.toml:") for line in lines]
