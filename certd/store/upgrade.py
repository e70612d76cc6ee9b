"""An older database brought up to date, with a copy of it made before."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from certd.errors import StoreError
from certd.store.backup import before_migration
from certd.store.files import HEAD

log = logging.getLogger(__name__)


def upgrade(
    connection: sa.Connection, raw: sqlite3.Connection, path: Path | None, revision: str
) -> None:
    """Run the migrations after ``revision`` in one transaction.

    ``raw`` is the driver's own connection behind ``connection``.

    Raises:
        StoreError: the copy could not be made, or a migration failed; either way the
            database is as it was.
    """
    copy = "none"
    if path is not None:
        copy = str(before_migration(raw, path, HEAD, datetime.now(UTC)))
        log.info(
            "the database is brought from %s to %s; as it was before: %s", revision, HEAD, copy
        )
    # Slow to import, and needed only after an upgrade.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except Exception as error:  # a migration may meet anything in a database
        # Without statement and values, which SQLAlchemy would add.
        reason = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
        raise StoreError(
            f"the database {path} was not brought from {revision} to {HEAD}",
            f"{reason} (it is as it was; a copy: {copy})",
            "if it lacks room, make some; else install the certd of before and report this",
        ) from None
