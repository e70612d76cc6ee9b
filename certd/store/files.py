"""Where things are in the state folder, and which form of the database this program knows."""

from __future__ import annotations

from pathlib import Path

from certd.errors import StoreError

HEAD = "0001"  # the newest migration; a test compares it with the folder


def database_file(state: Path) -> Path:
    return state / "certd.db"


def daemon_lock(state: Path) -> Path:
    return state / "daemon.lock"


def newer(path: Path | None, revision: str) -> StoreError:
    """What to say of a database at a revision above ``HEAD``."""
    return StoreError(
        f"the database {path} was written by a newer certd",
        f"it is at migration {revision}, this program knows {HEAD}",
        "install that version again, or restore the backup made before the upgrade",
    )
