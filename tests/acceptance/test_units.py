"""The systemd units, as systemd itself reads and rates them; and the polkit rule."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from certd.testing.processes import NotInstalled

UNITS = Path(__file__).parents[2] / "systemd"
SOCKETS = ("certd.socket", "certd-tls.socket")
EXPOSURE = 20  # tenths of systemd's points; a unit without hardening has 96


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        raise NotInstalled("systemd", "there is no systemd-analyze", "install systemd")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as installed, but for the path of certd, which systemd wants to find."""
    if not Path("/bin/kill").exists():
        raise NotInstalled("procps", "there is no /bin/kill", "install it")
    text = (UNITS / "certd.service").read_text()
    assert "\nExecStart=/usr/bin/certd run\n" in text
    (tmp_path / "certd.service").write_text(text.replace("/usr/bin/certd", "/bin/true"))
    for socket in SOCKETS:
        shutil.copy(UNITS / socket, tmp_path)
    return tmp_path


def drop_ins() -> list[str]:
    """Every ``[Service]`` example in the README."""
    blocks = re.findall(r"```ini\n(.*?)```", (UNITS / "README.md").read_text(), re.DOTALL)
    return [block for block in blocks if "[Service]" in block]


def test_systemd_knows_every_line(units: Path) -> None:
    seen = analyze(
        "verify", "--man=no", units / "certd.service", *(units / name for name in SOCKETS)
    )

    # An unknown or wrong line is a warning only: nothing at all must be said of our files.
    about_ours = [line for line in (seen.stdout + seen.stderr).splitlines() if "certd" in line]
    assert (seen.returncode, about_ours) == (0, [])


def test_a_wrong_line_would_be_noticed(units: Path) -> None:
    with (units / "certd.service").open("a") as unit:
        unit.write("[Service]\nProtectSistem=strict\n")
    seen = analyze("verify", "--man=no", units / "certd.service")

    assert "Unknown key" in seen.stderr


@pytest.mark.parametrize("drop_in", ["", *drop_ins()])
def test_little_is_exposed_also_with_what_the_readme_adds(units: Path, drop_in: str) -> None:
    folder = units / "certd.service.d"
    folder.mkdir()
    (folder / "own.conf").write_text(drop_in)
    seen = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", units / "certd.service")

    assert seen.returncode == 0, seen.stdout + seen.stderr


@pytest.mark.parametrize("drop_in", drop_ins())
def test_systemd_knows_every_line_of_the_readme(units: Path, drop_in: str) -> None:
    folder = units / "certd.service.d"
    folder.mkdir()
    # The program is looked for too; that of a virtual environment is not here.
    known = re.sub(r"^ExecStart=/.*$", "ExecStart=/bin/true", drop_in, flags=re.M)
    (folder / "own.conf").write_text(known)
    seen = analyze("verify", "--man=no", units / "certd.service")

    about_ours = [line for line in (seen.stdout + seen.stderr).splitlines() if "own.conf" in line]
    assert (seen.returncode, about_ours) == (0, [])


def test_what_the_daemon_relies_on() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNITS / "certd.service")
    service = dict(unit["Service"])
    expected = {
        "Type": "notify",
        "WatchdogSec": "60",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "KillMode": "mixed",
        "TimeoutStopSec": "20",
        "Restart": "always",
        "RestartPreventExitStatus": "2",
        "StateDirectory": "certd",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "LimitCORE": "0",
        "CapabilityBoundingSet": "",
        "ReadWritePaths": "-/etc/ssl/certd",
    }
    assert {name: service.get(name) for name in expected} == expected


def test_every_line_is_explained() -> None:
    """A hardening line that nobody can explain is the first to be removed."""
    readme = (UNITS / "README.md").read_text()
    text = (UNITS / "certd.service").read_text()
    names = set(re.findall(r"^([A-Za-z]+)=", text, re.MULTILINE))
    unexplained = {name for name in names if f"`{name}" not in readme}
    assert unexplained == {"Description", "Group", "WantedBy"}
