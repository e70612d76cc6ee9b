"""The configuration's reference says what the code does, no less and no more."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from certd import plugins
from certd.config import WELL_KNOWN, schema
from certd.config.catables import Table
from certd.config.endpoints import EndpointTable
from certd.config.tables import MANY, SINGLE
from certd.config.words import toml
from tests import shelf

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
TABLES: dict[str, type[Table]] = {
    **{f"## `[{name}]`": model for name, model in SINGLE.items()},
    **{f"## `[{name}.NAME]`": model for name, model in MANY.items()},
}
DISK = '### `type = "disk"`'


def documented(heading: str, first: str = "| key |") -> dict[str, str]:
    """The keys of the table under a heading, each with its default as the page has it."""
    section = re.split(r"^##", PAGE.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = section.split(first, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert all(len(row) == 5 for row in rows), heading
    return {row[0].strip("`"): row[2] for row in rows}


def default(value: Any) -> str:
    if value in (PydanticUndefined, dataclasses.MISSING):
        return "required"
    return (
        "none" if value is None else f"`{toml(str(value) if isinstance(value, Path) else value)}`"
    )


@pytest.mark.parametrize("heading", TABLES)
def test_every_setting_is_documented_with_its_default(heading: str) -> None:
    fields = TABLES[heading].model_fields
    assert documented(heading) == {key: default(info.default) for key, info in fields.items()}


def test_every_setting_of_an_endpoint_is_documented_with_its_default() -> None:
    rows = documented("### Endpoints", "| setting |")
    fields = EndpointTable.model_fields
    assert rows == {key: default(info.default) for key, info in fields.items()}


def settings_of(kind: str) -> dict[str, str]:
    """Of a target's type, each with its default as the page would have it."""
    found = dataclasses.fields(plugins.plugin_class(kind, plugins.deploy_targets()))
    return {
        one.name: default(
            one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        )
        for one in found
    }


# Types that have a common table, by its heading; those of servers have one of defaults besides.
COMMON = {"acm": "at AWS", "cloudfront": "at AWS", "elb": "at AWS", "elbv2": "at AWS"}
COMMON |= {"iam": "at AWS", "secretsmanager": "at AWS"}
SERVERS = ("apache", "caddy", "dovecot", "haproxy", "nginx", "postfix", "traefik")


@pytest.mark.parametrize("kind", sorted(set(plugins.deploy_targets()) - set(SERVERS)))
def test_every_setting_of_a_target_is_documented_with_its_default(kind: str) -> None:
    own = documented(f'### `type = "{kind}"`')
    common = documented(f"### Targets {COMMON[kind]}") if kind in COMMON else {}
    assert common | own == settings_of(kind)


@pytest.mark.parametrize("kind", SERVERS)
def test_every_default_of_a_servers_target_is_documented(kind: str) -> None:
    section = PAGE.partition("### Targets of one server\n")[2].partition("\n## ")[0]
    [row] = re.findall(rf"^\| `{kind}` \| (.*) \|$", section, re.MULTILINE)
    test, reload, files, own = (cell.strip() for cell in row.split("|"))
    settings, like = settings_of(kind), settings_of("disk")
    assert (test or "`[]`", reload or "`[]`", files or "`{}`") == tuple(
        settings[key] for key in ("test", "reload", "files")
    )
    names = set(re.findall(r"`(\w+)`", own))
    assert names == settings.keys() - like.keys()
    for name in names:
        assert re.search(
            rf"^\| `{name}` \({kind}\) \| .* \| {re.escape(settings[name])} \|",
            section,
            re.MULTILINE,
        )


def test_every_well_known_ca_is_documented() -> None:
    for name, ca in WELL_KNOWN.items():
        staging = f"`{ca.staging}`" if ca.staging else ""
        assert f"| `{name}` | `{ca.directory}` | {staging}".rstrip() in PAGE


def test_the_schema_has_every_setting() -> None:
    whole = schema()
    definitions = {name: set(table["properties"]) for name, table in whole["$defs"].items()}
    for model in TABLES.values():
        if model not in (MANY["target"], MANY["dns"]):  # those are in their plugins' own
            assert definitions[model.__name__] == set(model.model_fields)
    target = documented(DISK).keys() | documented("## `[target.NAME]`").keys()
    assert definitions["disk_target"] == target
    assert definitions["exec_provider"] > set(MANY["dns"].model_fields)
    assert whole["properties"].keys() == {*SINGLE, *MANY}


def test_the_schema_tells_several_types_of_target_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.install(tmp_path, "[certd.deploy_targets]\nshelf = tests.shelf:Shelf\n")
    monkeypatch.syspath_prepend(tmp_path)
    [table] = schema()["properties"]["target"]["patternProperties"].values()
    assert table["discriminator"]["mapping"].keys() > {"disk", "shelf"}
