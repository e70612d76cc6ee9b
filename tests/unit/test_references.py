"""References to secrets: fetched when they are used, shown nowhere, and explained."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from certd import references
from certd.errors import ConfigError, NotHere, SecretError
from certd.references import SecretReference, reference
from certd.secrets import Secret

TEXT = "canary-4c1f9e"


def python(code: str) -> dict[str, list[str]]:
    return {"command": [sys.executable, "-c", code]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the secret in a file, which is systemd's too; and the secret in TOKEN."""
    (tmp_path / "token").write_text(f"{TEXT}\n")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TOKEN", TEXT)
    return tmp_path


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param({"file": "token"}, id="file, relative to the configuration's folder"),
        pytest.param({"env": "TOKEN"}, id="environment"),
        pytest.param({"credential": "token"}, id="systemd credential"),
        pytest.param({"command": ["cat", "{place}/token"]}, id="command"),
    ],
)
def test_it_is_fetched_and_in_no_text_of_its_reference(written: Any, place: Path) -> None:
    if isinstance(written, dict) and "command" in written:
        written = {"command": [word.format(place=place) for word in written["command"]]}
    found = reference(written, place)
    assert found.fetch() == Secret(TEXT)
    assert TEXT not in f"{found} {found!r} {[found]}"


def test_it_is_fetched_anew_each_time(place: Path) -> None:
    found = reference({"file": "token"}, place)
    assert found.fetch() == Secret(TEXT)
    (place / "token").write_text("another\r\n")
    assert found.fetch() == Secret("another")


def test_a_secret_of_several_lines_keeps_them(place: Path) -> None:
    (place / "token").write_text(" a\nb \n")
    assert reference({"file": "token"}, place).fetch() == Secret(" a\nb ")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(
            {"file": "absent"},
            'the secret { file = "{place}/absent" } was not fetched: No such file or directory; '
            "put the secret there, for certd's user only (mode 0600), or correct the path",
            id="no such file",
        ),
        pytest.param({"file": "."}, "Is a directory; put the secret there", id="a folder"),
        pytest.param({"file": "empty"}, "it is empty; put the secret there", id="an empty file"),
        pytest.param({"file": "bytes"}, "it is no text; write it as UTF-8", id="no text"),
        pytest.param({"file": "large"}, "there is more than 64 KiB", id="a large file"),
        pytest.param({"file": "pipe"}, "it is a pipe or a device, not a file", id="a pipe"),
        pytest.param(
            {"env": "ABSENT"},
            'the secret { env = "ABSENT" } was not fetched: certd\'s environment has no ABSENT; '
            "set ABSENT before certd starts",
            id="no such variable",
        ),
        pytest.param({"env": "EMPTY"}, "it is empty", id="an empty variable"),
        pytest.param(
            {"credential": "absent"},
            'the secret { credential = "absent" } was not fetched: No such file or directory; add '
            "LoadCredential=absent:/etc/certd/absent to the unit",
            id="no such credential",
        ),
        pytest.param(
            {"command": ["false", TEXT]},
            'the secret { command = ["false", …] } was not fetched: false ended with status 1; run '
            "the command by hand, as certd's user, to see what it lacks",
            id="a command that fails",
        ),
        pytest.param(
            {"command": ["/absent/program"]},
            "/absent/program cannot be started: No such file or directory; run",
            id="no such program",
        ),
        pytest.param(
            python("import sys; sys.exit('vault is sealed')"),
            'ended with status 1: "vault is sealed"; run',
            id="a command that says why",
        ),
        pytest.param(
            python("import sys; print('s'); sys.stdout.write('x' * 99999)"),
            "it writes too much for a secret",
            id="a command that floods",
        ),
        pytest.param(python("pass"), "it is empty", id="a command that says nothing"),
    ],
)
def test_what_cannot_be_fetched_is_explained(
    written: Any, said: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    (place / "empty").touch()
    (place / "bytes").write_bytes(b"\xff\xfe" + TEXT.encode())
    (place / "large").write_text(TEXT * 10000)
    os.mkfifo(place / "pipe")
    with pytest.raises(SecretError) as caught:
        reference(written, place).fetch()
    assert said.replace("{place}", str(place)) in str(caught.value)
    assert TEXT not in str(caught.value)
    assert caught.value.next


def test_a_credential_at_the_terminal_says_what_to_set(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SecretError, match="set CREDENTIALS_DIRECTORY to a folder with it"):
        reference({"credential": "token"}, place).fetch()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(f"import sys; print({TEXT!r}); sys.exit('token {TEXT}')", id="both streams"),
        pytest.param("import sys; sys.exit('refused: ' + sys.argv[1])", id="its argument"),
    ],
)
def test_what_a_failing_command_says_is_not_shown_with_a_secret_in_it(
    code: str, place: Path
) -> None:
    with pytest.raises(SecretError, match="ended with status 1; run") as caught:
        reference({"command": [sys.executable, "-c", code, TEXT]}, place).fetch()
    assert TEXT not in str(caught.value)


def test_a_command_has_no_shell_no_input_and_a_clean_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/of-certd")
    code = "import os, sys; print(sorted(os.environ), sys.stdin.read(), sys.argv[1:])"
    found = reference({"command": [sys.executable, "-c", code, "$(id)", "a;b"]}, place).fetch()
    names = ["HOME", "LANG", "PATH"]
    assert found.reveal() in (
        f"{names}  ['$(id)', 'a;b']",
        f"{sorted([*names, 'LC_CTYPE'])}  ['$(id)', 'a;b']",  # Python's own
    )


def test_a_command_that_hangs_is_killed_with_all_it_started(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "COMMAND_SECONDS", 0.3)
    code = "import subprocess; subprocess.run(['sleep', '60.4123'])"
    begun = time.monotonic()
    with pytest.raises(SecretError, match=r"did not end within 0\.3 s and was killed"):
        reference(python(code), place).fetch()
    assert time.monotonic() - begun < 20
    deadline = time.monotonic() + 10
    while any("60.4123" in line and "sleep\0" in line for line in _processes()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _processes() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return lines


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param("", "the secret is empty", id="empty"),
        pytest.param(7, "it is no place of a secret", id="a number"),
        pytest.param({}, "there are no places: a secret is in one place; write one of", id="none"),
        pytest.param(
            {"file": "a", "env": "B"}, "there are 2 places: a secret is in one place", id="two"
        ),
        pytest.param({"fil": "a"}, 'unknown key "fil"; did you mean file?', id="near"),
        pytest.param({"x": 1}, 'unknown key "x"; write one of { file =', id="unknown"),
        pytest.param({"file": 7}, "file is not a path", id="a number for a path"),
        pytest.param({"file": "~/t"}, '"~/t" begins with ~: only a shell', id="a shell's path"),
        pytest.param({"env": "A B"}, "env is not a name: a variable", id="no variable"),
        pytest.param({"env": "$TOKEN"}, 'write { env = "TOKEN" }', id="a shell's variable"),
        pytest.param(
            {"credential": "../x"}, "credential is not a name: systemd knows", id="a path"
        ),
        pytest.param({"credential": "."}, "credential is not a name", id="a dot"),
        pytest.param({"command": f"pass {TEXT}"}, "command is no list", id="a shell's line"),
        pytest.param({"command": []}, "command is no list", id="an empty command"),
        pytest.param({"command": ["a", 1]}, "command is no list", id="a number in a command"),
    ],
)
def test_what_is_no_reference_is_a_mistake(written: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reference(written, Path("/etc/certd"))
    assert said in str(caught.value)
    assert TEXT not in str(caught.value)
    assert caught.value.next


@pytest.mark.parametrize("written", [{"file": "absent"}, {"command": ["absent-program"]}])
def test_what_the_machine_lacks_is_told_without_fetching(written: Any, place: Path) -> None:
    with pytest.raises(NotHere, match="absent"):
        reference(written, place).check()


@pytest.mark.parametrize("written", [{"env": "ABSENT"}, {"credential": "absent"}])
def test_what_systemd_passes_is_not_missed_at_the_terminal(written: Any, place: Path) -> None:
    reference(written, place).check()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        pytest.param(0o600, None, id="the owner's"),
        pytest.param(0o640, None, id="a group's"),
        pytest.param(0o604, "its mode is 0604: everybody may read it", id="readable by all"),
        pytest.param(0o602, "its mode is 0602: everybody may replace it", id="writable by all"),
    ],
)
def test_a_file_that_is_everybodys_is_warned_of(mode: int, said: str | None, place: Path) -> None:
    (place / "token").chmod(mode)
    found = reference({"file": "token"}, place).warning()
    assert (found and found[1]) == said


def test_a_secret_in_the_configuration_is_warned_of(place: Path) -> None:
    found = reference(TEXT, place).warning()
    assert found is not None
    assert TEXT not in " ".join(found)
    assert SecretReference("env", "TOKEN").warning() is None
