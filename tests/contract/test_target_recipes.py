"""The targets of one server: the commands that are theirs, and who runs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from certd import plugins
from certd.testing.chains import bundle

COMMANDS = {
    "apache": ["apache2ctl -t", "systemctl reload apache2"],
    "dovecot": ["doveconf -n", "systemctl reload dovecot"],
    "nginx": ["nginx -t", "systemctl reload nginx"],
    "postfix": ["postfix check", "systemctl reload postfix"],
    "caddy": ["caddy reload --force --config /etc/caddy/Caddyfile"],
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands that were run, a line each; none of them is a server's."""
    ran, programs = tmp_path / "ran", tmp_path / "bin"
    programs.mkdir()
    for name in {command.split()[0] for each in COMMANDS.values() for command in each}:
        (programs / name).write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {ran}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return ran


def recipe(name: str, path: Path, **settings: Any) -> Any:
    return plugins.plugin_class(name, plugins.deploy_targets())(path, **settings)


@pytest.mark.parametrize("name", COMMANDS)
def test_root_tests_then_reloads(
    name: str, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    recipe(name, tmp_path / "{name}").deploy(bundle())
    assert ran.read_text().splitlines() == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_another_user_leaves_the_test_to_the_reload(
    name: str, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nginx -t` opens the server's logs, which only root may: it would fail for ever."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    recipe(name, tmp_path / "{name}").deploy(bundle())
    assert ran.read_text().splitlines() == COMMANDS[name][-1:]


def test_another_user_runs_a_test_that_is_the_operators(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    recipe("nginx", tmp_path / "{name}", test=("nginx", "-t", "-q")).deploy(bundle())
    assert ran.read_text().splitlines() == ["nginx -t -q", "systemctl reload nginx"]
