"""Which CA is not asked, by whom and until when; and what is left of the CAs' limits."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "park",
        sa.Column("lineage", sa.String(), nullable=False),
        sa.Column("ca", sa.String(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("lineage", "ca"),
    )
    op.create_table(
        "bucket",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("full_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.add_column("certificate_order", sa.Column("finalizing", sa.Integer(), nullable=True))
    op.add_column("lineage", sa.Column("held_until", sa.BigInteger(), nullable=True))
    op.add_column("lineage", sa.Column("held_for", sa.String(), nullable=True))
