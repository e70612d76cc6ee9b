"""What this machine lacks of a configuration: told, with its line, but no mistake of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certd import config as configuration
from tests.configuring import Write, wrong

pytestmark = pytest.mark.usefixtures("shelf_target")

NOBODY = "nobody-of-that-name"


def lacking(path: Path) -> list[str]:
    """What the machine lacks, of a file without mistakes."""
    return [str(finding) for finding in configuration.load(path).lacking]


def disk(*settings: str) -> str:
    return "\n".join(('[target.web]\ntype = "disk"\npath = "tls/{name}"', *settings, ""))


@pytest.fixture
def path_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``PATH`` has one folder only, with one program, ``prog``."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "prog").write_text("#!/bin/sh\n")
    (folder / "prog").chmod(0o755)
    (folder / "data").touch()
    (folder / "two words").write_text("#!/bin/sh\n")
    (folder / "two words").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return str(folder)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param(
            f'owner = "{NOBODY}"',
            f'there is no user "{NOBODY}" on this machine; create the user, or correct it',
            id="no such user",
        ),
        pytest.param(
            f'group = "{NOBODY}"',
            f'there is no group "{NOBODY}" on this machine; create the group, or correct it',
            id="no such group",
        ),
        pytest.param(
            'reload = ["absent", "-s"]',
            'there is no program "absent": it is in no folder of PATH ({PATH}); write its '
            "whole path, or install it",
            id="no such program",
        ),
        pytest.param(
            'reload = ["data"]', 'there is no program "data": it is in no', id="no program"
        ),
        pytest.param(
            'reload = ["{PATH}/absent"]',
            'there is no program "{PATH}/absent"; correct it, or install the program',
            id="no such file",
        ),
        pytest.param(
            'reload = ["{PATH}"]', 'there is no program "{PATH}"; correct it', id="a folder"
        ),
        pytest.param(
            'reload = ["prog reload nginx"]',
            'there is no program "prog reload nginx": program and arguments are one word each, for '
            'no shell takes them apart; write ["prog", "reload", "nginx"]',
            id="a shell's line",
        ),
        pytest.param(
            'reload = ["programs/prog"]',
            '"programs/prog" is relative to wherever certd is started; write the whole path',
            id="a relative program",
        ),
    ],
)
def test_what_a_disk_target_names_is_not_there(
    write: Write, path_variable: str, setting: str, said: str
) -> None:
    [line] = lacking(write(disk(setting.replace("{PATH}", path_variable))))
    key = setting.split()[0]
    assert line.startswith(
        f"certd.toml:4: [target.web] {key}: {said.replace('{PATH}', path_variable)}"
    )


@pytest.mark.parametrize(
    "setting",
    [
        'owner = "0"\ngroup = "4294967294"',
        'owner = "root"\ngroup = "root"',
        "reload = []",
        'reload = ["prog", "-s"]',
        'reload = ["{PATH}/prog"]',
        'reload = ["two words"]',
    ],
)
def test_what_is_there_or_is_a_number_is_right(
    write: Write, path_variable: str, setting: str
) -> None:
    assert lacking(write(disk(setting.replace("{PATH}", path_variable)))) == []


@pytest.mark.parametrize(
    ("webroot", "said"),
    [("absent", "No such file or directory"), ("certd.toml", "it is not a folder")],
)
def test_a_webroot_is_a_folder(write: Write, tmp_path: Path, webroot: str, said: str) -> None:
    assert lacking(write(f'[http]\nwebroot = "{webroot}"\n')) == [
        f'certd.toml:2: [http] webroot: "{tmp_path / webroot}" cannot be used: {said}; '
        "correct the path: it is the folder that the web server serves"
    ]


def test_a_targets_folder_need_not_be_there(write: Write) -> None:
    assert lacking(write(disk())) == []


def test_any_plugin_may_say_what_it_lacks(write: Write) -> None:
    [line] = lacking(write('[target.x]\ntype = "shelf"\npath = "x"\nwood = "ebony"\n'))
    assert line == (
        "certd.toml:4: [target.x] wood: there is no ebony here: it comes by ship; take oak"
    )


def test_mistakes_and_what_is_lacking_come_in_one_list(write: Write) -> None:
    text = disk(f'owner = "{NOBODY}"', 'mode = "0777"', "reload = 1", f'group = "{NOBODY}"')
    lines = wrong(write(f'[http]\nwebroot = "absent"\nlisten = "x"\n{text}'))
    assert [line.split(": ")[1] for line in lines] == [
        *("[http] webroot", "[http] webroot", "[http] listen"),
        *(f"[target.web] {key}" for key in ("owner", "mode", "reload", "group")),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_webroot_that_may_not_be_looked_at_is_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    [line] = lacking(write('[http]\nwebroot = "closed/html"\n'))
    assert "Permission denied" in line
