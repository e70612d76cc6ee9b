"""Where things are in the state folder."""

from __future__ import annotations

from pathlib import Path


def database_file(state: Path) -> Path:
    return state / "certd.db"


def daemon_lock(state: Path) -> Path:
    return state / "daemon.lock"
