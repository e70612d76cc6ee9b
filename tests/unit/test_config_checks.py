"""Several mistakes at once: each has its line in the first round, whatever the others are."""

from __future__ import annotations

import pytest

from tests.configuring import AGREED, Write, places, wrong

pytestmark = pytest.mark.usefixtures("shelf_target")

SHELF = '[target.x]\ntype = "shelf"\npath = "x"\n'
TWO_CERTIFICATES = "".join(
    f'[certificate.{name}]\nnames = ["{name}.example"]\ntargets = ["web"]\n' for name in "ab"
)


def test_one_table_has_a_line_for_each_mistake(write: Write) -> None:
    disk = '[target.web]\ntype = "disk"\npath = "tls"\nmode = "0777"\nreload_timeout = -1\n'
    assert places(wrong(write(AGREED + disk + TWO_CERTIFICATES))) == [
        "6: [target.web] mode",
        "7: [target.web] reload_timeout",
        "13: [certificate.b] targets",
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param('reload = "nginx"', id="of the wrong type"),
        pytest.param("made = 1", id="unknown"),
        pytest.param('verify = ["x"]', id="of the core's own"),
        pytest.param('mode = "0777"', id="of a value that cannot be"),
        pytest.param('owner = ""', id="nobody"),
    ],
)
def test_another_wrong_setting_hides_nothing(write: Write, other: str) -> None:
    disk = f'[target.web]\ntype = "disk"\npath = "tls"\n{other}\nreload_timeout = -1\n'
    assert places(wrong(write(AGREED + disk + TWO_CERTIFICATES))) == [
        f"6: [target.web] {other.split()[0]}",
        "7: [target.web] reload_timeout",
        "13: [certificate.b] targets",
    ]


@pytest.mark.parametrize("path", ["path = 5", 'path = "{nam}"', 'path = "~/tls"', ""])
def test_without_a_right_path_no_place_is_guessed(write: Write, path: str) -> None:
    [line] = wrong(write(AGREED + f'[target.web]\ntype = "disk"\n{path}\n' + TWO_CERTIFICATES))
    assert "[target.web] path" in line


def test_what_is_there_twice_is_told_beside_other_mistakes(write: Write) -> None:
    target = 'verify = ["a:1", "A:1"]\nwait = "x"\n'
    text = '[http]\nlisten = ["a:1", "a:1"]\nweb = 1\n' + SHELF + target
    assert places(wrong(write(text))) == [
        "2: [http] listen",
        "3: [http] web",
        "7: [target.x] verify",
        "8: [target.x] wait",
    ]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param('wood = "balsa"', '"balsa" is too soft: books are heavy; take oak', id="own"),
        pytest.param(
            'wood = "plastic"',
            "the plugin refuses the value: no such tree: plastic; correct it",
            id="an exception of its own",
        ),
        pytest.param(
            'lock = "s3cret"',
            "the plugin refuses the value: LookupError; correct it",
            id="an exception that repeats a secret",
        ),
    ],
)
def test_a_plugins_check_of_a_setting_speaks_at_its_line(
    write: Write, setting: str, said: str
) -> None:
    key = setting.split()[0]
    assert wrong(write(SHELF + f"{setting}\n")) == [f"certd.toml:4: [target.x] {key}: {said}"]


def test_a_plugins_check_is_not_asked_for_a_value_of_another_type(write: Write) -> None:
    [line] = wrong(write(SHELF + "lock = 5\n"))
    assert "expected a string, found an integer" in line


def test_a_check_across_settings_waits_for_each_to_be_right(write: Write) -> None:
    assert places(wrong(write(SHELF + 'wait = 13\nwood = "balsa"\n'))) == ["5: [target.x] wood"]
    assert places(wrong(write(SHELF + "wait = 13\n"))) == ["1: [target.x]"]
