"""Every plugin and every setting that certd brings is in a table of its README, and no other."""

from __future__ import annotations

import dataclasses
import re
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
ROW = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)


def built_in(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in distribution("certd").entry_points.select(group=group)}


def rows(text: str) -> set[str]:
    """What stands in backquotes in the first column of the tables."""
    return {name for cell in ROW.findall(text) for name in re.findall(r"`([^`]+)`", cell)}


def section(readme: Path, heading: str) -> str:
    """From a heading to the next; the part above all of them for ``# ``."""
    _, _, after = readme.read_text().partition(heading)
    return after.partition("\n## ")[0]


@pytest.mark.parametrize(
    ("group", "readme", "first_row"),
    [
        ("certd.deploy_targets", "deploy/README.md", "type"),
        ("certd.dns_providers", "providers/README.md", "provider"),
    ],
)
def test_the_table_has_every_built_in_plugin_and_no_other(
    group: str, readme: str, first_row: str
) -> None:
    table = section(HERE / readme, "# ")
    assert re.search(rf"^\| `?{first_row}`? \|", table, re.MULTILINE)
    assert rows(table) - {first_row} == set(built_in(group))


@pytest.mark.parametrize("entry", built_in("certd.deploy_targets").values(), ids=lambda e: e.name)
def test_every_setting_of_a_target_is_described(entry: EntryPoint) -> None:
    for field in dataclasses.fields(entry.load()):
        assert field.metadata.get("description"), field.name
