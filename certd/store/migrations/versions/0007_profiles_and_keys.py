"""What else a version was made to: profile and lifetime; and keys made in advance."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "next_key",
        sa.Column("lineage", sa.String(), nullable=False),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column("spki_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("key_pem", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("lineage"),
    )
    op.add_column("lineage", sa.Column("new_key", sa.Boolean(), nullable=True))
    op.add_column("certificate_order", sa.Column("profile", sa.String(), nullable=True))
    op.add_column("certificate_order", sa.Column("lifetime", sa.Integer(), nullable=True))
    op.add_column("certificate_order", sa.Column("wishes", sa.String(), nullable=True))
    # Before the PEM columns, which fill pages: the whole table is written anew.
    with op.batch_alter_table("version", recreate="always") as batch:
        batch.add_column(
            sa.Column("profile", sa.String(), nullable=True), insert_after="created_at"
        )
        batch.add_column(sa.Column("wishes", sa.String(), nullable=True), insert_after="profile")
