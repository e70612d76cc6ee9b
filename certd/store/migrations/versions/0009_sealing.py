"""The keys that the secrets of the database are sealed with, sealed themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "seal_key",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("sealed_by", sa.String(), nullable=False),
        sa.Column("wrapped", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
    )
