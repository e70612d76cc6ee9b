"""Runs the migrations on the connection that ``Database`` passes in."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, render_as_batch=True)
connection.exec_driver_sql("BEGIN IMMEDIATE")
try:
    context.run_migrations()
    connection.exec_driver_sql("COMMIT")
except BaseException:
    connection.exec_driver_sql("ROLLBACK")
    raise
