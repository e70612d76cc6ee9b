"""Runs the migrations on the connection that ``Database`` passes in."""

from alembic import context

connection = context.config.attributes["connection"]
connection.exec_driver_sql("BEGIN IMMEDIATE")
try:
    # Inside: or Alembic would begin and commit by itself.
    context.configure(connection=connection, render_as_batch=True)
    context.run_migrations()
    connection.exec_driver_sql("COMMIT")
except BaseException:
    # SQLite has rolled back by itself after some errors (disk full, I/O error).
    if connection.connection.dbapi_connection.in_transaction:
        connection.exec_driver_sql("ROLLBACK")
    raise
