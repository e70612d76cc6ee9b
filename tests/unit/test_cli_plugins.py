"""``certd plugins``: what is installed, and the settings of one."""

from __future__ import annotations

import dataclasses
import re
import typing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from click.testing import CliRunner

from certd.cli.main import group
from certd.cli.plugins import in_words
from certd.errors import ConfigError
from certd.references import SecretReference
from certd.secrets import Secret
from tests import shelf


@dataclasses.dataclass(frozen=True)
class Registrar:
    """Writes to a ``registrar``.

    More of it.
    """

    credential: ClassVar[str] = "made at its panel; it may change TXT records only"
    rate: ClassVar[str] = "20/1s"
    most_values: ClassVar[int] = 1

    token: SecretReference = dataclasses.field(metadata={"description": "API \x1b[2Jtoken"})
    url: str = "https://api.example.net"


ENTRY_POINTS = """\
[certd.deploy_targets]
shelf = tests.shelf:Shelf
both = tests.shelf:Shelf
[certd.dns_providers]
registrar = tests.unit.test_cli_plugins:Registrar
both = tests.unit.test_cli_plugins:Registrar
"""


def run(*argv: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["plugins", *argv], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value, result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shelf.install(tmp_path, ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_everything_installed_is_listed_with_what_it_is_and_its_package(folder: Path) -> None:
    status, text = run()
    assert status == 0
    targets, _, providers = re.sub(" +", " ", text).partition("DNS providers:")
    assert "\n disk PEM files in a folder, " in targets
    assert " read them. (certd 0" in targets
    assert "\n shelf Every kind of field that a setting can be. (" in targets
    assert "\n registrar Writes to a registrar. (" in providers


def test_one_that_does_not_load_is_told_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    status, text = run()
    assert status == 1
    assert "FAILED broken is installed but does not load" in text
    assert "  disk " in text


def test_a_provider_is_shown_with_its_settings_its_credential_and_its_limits(folder: Path) -> None:
    status, text = run("registrar")
    assert status == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith("registrar: Writes to a registrar. (DNS provider, ")
    assert lines[1:] == [
        "setting type default",
        "token place of a secret required API [2Jtoken",
        'url string "https://api.example.net"',
        "credential: made at its panel; it may change TXT records only",
        "changes that it allows: 20/1s",
        "values that one name can have: 1",
    ]
    assert "\x1b" not in text


def test_a_name_of_both_kinds_is_shown_as_both(folder: Path) -> None:
    _, text = run("both")
    assert "(deploy target, " in text
    assert "(DNS provider, " in text


@pytest.mark.parametrize(
    ("name", "next"), [("disc", "did you mean disk?"), ("?!", "install the package")]
)
def test_a_name_that_is_none_is_told(name: str, next: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run(name)
    assert "disk" in refused.value.why
    assert next in refused.value.next


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "string"),
        (str | None, "string"),
        (tuple[str, ...], "list of strings"),
        (tuple[SecretReference, ...], "list of places of secrets"),
        (dict[str, str | SecretReference], "table of strings or places of secrets"),
        (Literal["name", "zone"], '"name" or "zone"'),
        (typing.Optional[Path], "path"),  # noqa: UP045 - as a stranger may write it
        (list[Secret], "list of secrets"),
        (bool, "true or false"),
        (dict[str, int], "table of whole numbers"),
    ],
)
def test_a_type_is_told_as_it_is_written_in_toml(annotation: Any, words: str) -> None:
    assert in_words(annotation) == words


@pytest.mark.parametrize(
    "entry",
    [*entry_points(group="certd.deploy_targets"), *entry_points(group="certd.dns_providers")],
    ids=lambda entry: entry.name,
)
def test_every_built_in_says_what_it_is_and_what_its_settings_are(entry: Any) -> None:
    plugin = entry.load()
    status, text = run(entry.name)
    assert status == 0
    settings = [field for field in dataclasses.fields(plugin) if field.init]
    assert all(field.metadata.get("description") for field in settings)
    assert text.splitlines()[0].startswith(f"{entry.name}: ")
    if entry.group == "certd.dns_providers":
        assert "credential: " in text
