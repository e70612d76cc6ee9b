"""Roots and intermediates of our own, what they have signed, and what a leaf is for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "authority",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ca", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("key_pem", sa.String(), nullable=False),
        sa.Column("certificate_pem", sa.String(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "issued",
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("chain_pem", sa.String(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("url"),
    )
    # Before the PEM columns, which fill pages: the whole table is written anew.
    with op.batch_alter_table("version", recreate="always") as batch:
        batch.add_column(sa.Column("usages", sa.String(), nullable=True), insert_after="issuer")
