"""Which revision of the schema a database has; all tables of a new one."""

from __future__ import annotations

import sqlalchemy as sa

from certd.store import schema
from certd.store.files import HEAD


def of(connection: sa.Connection) -> str | None:
    """None: it has no tables yet."""
    there = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
    )
    if not there.first():
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return str(row[0]) if row else None


def create(connection: sa.Connection) -> None:
    """All tables as they are now: what the migrations lead to, which a test holds together."""
    schema.metadata.create_all(connection)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
