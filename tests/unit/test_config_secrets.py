"""References to secrets in a configuration: read, never fetched; warned of, never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from certd import config as configuration
from certd.config.catables import Table
from certd.config.fields import Reference
from certd.references import SecretReference
from certd.settings import Surroundings
from tests.configuring import Write, wrong

pytestmark = pytest.mark.usefixtures("shelf_target")

TEXT = "canary-93be"
TARGET = '[target.x]\ntype = "shelf"\npath = "x"\n'


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param(
            'password = { fil = "x" }', 'unknown key "fil"; did you mean file?', id="near"
        ),
        pytest.param(
            f'password = {{ env = "{TEXT}" }}',
            "env is not a name: a variable of the environment has letters, digits and _ in its "
            'name; write { env = "TOKEN" }',
            id="the secret itself in the place of its name",
        ),
        pytest.param(
            f'password = {{ command = "echo {TEXT}" }}',
            "command is no list of program and arguments: it is run as it is, without a shell; "
            'write { command = ["pass", "show", "token"] }',
            id="a shell's line",
        ),
        pytest.param(
            "password = 12", "it is no place of a secret; write { file = ", id="another type"
        ),
        pytest.param(
            f'keys = ["{TEXT}", {{ env = "A", file = "b" }}]', "there are 2 places", id="in a list"
        ),
    ],
)
def test_a_mistake_has_its_line_and_no_secret(write: Write, setting: str, said: str) -> None:
    [line] = wrong(write(f"{TARGET}{setting}\n"))
    assert line.startswith(f"certd.toml:4: [target.x] {setting.split()[0]}: {said}")
    assert TEXT not in line


def test_nothing_is_fetched_when_it_is_read(write: Write, tmp_path: Path) -> None:
    command = f'["touch", "{tmp_path}/fetched"]'
    config = configuration.load(write(f"{TARGET}password = {{ command = {command} }}\n"))
    assert not (tmp_path / "fetched").exists()
    password = getattr(config.targets["x"].plugin, "password")  # noqa: B009 - of the shelf's
    assert password == SecretReference("command", ("touch", f"{tmp_path}/fetched"))


def test_what_is_not_there_is_lacking(write: Write, tmp_path: Path) -> None:
    config = configuration.load(write(f'{TARGET}password = {{ file = "absent" }}\n'))
    assert [str(lack) for lack in config.lacking] == [
        f'certd.toml:4: [target.x] password: there is no file "{tmp_path}/absent"; put the secret '
        "there, for certd's user only (mode 0600), or correct the path"
    ]


def test_what_is_better_done_otherwise_is_a_warning(write: Write, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TEXT)
    (tmp_path / "token").chmod(0o644)
    config = configuration.load(
        write(f'{TARGET}password = "{TEXT}"\nkeys = [{{ file = "token" }}]\n')
    )
    assert [str(warning) for warning in config.warnings] == [
        "certd.toml:4: [target.x] password: the secret stands in the configuration itself: whoever "
        "reads the file has it, and each copy of the file is as secret; write { credential = "
        '"token" } or { file = "/etc/certd/token" }',
        f'certd.toml:5: [target.x] keys: "{tmp_path}/token" is no secret: its mode is 0644: '
        f"everybody may read it; chmod 0600 {tmp_path}/token",
    ]
    assert TEXT not in repr(config)


def test_a_table_of_the_core_has_them_in_the_same_way(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"hmac": (Reference | None, None)}
    model: Any = create_model("table", __base__=Table, **fields)
    around = Surroundings(tmp_path)
    table = model.model_validate({"hmac": {"file": "hmac"}}, context=around)
    assert table.hmac == SecretReference("file", tmp_path / "hmac")
    assert [key for key, _ in around.lacking] == ["hmac"]
