"""What else a version was made to: the profile and the lifetime that were asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("certificate_order", sa.Column("profile", sa.String(), nullable=True))
    op.add_column("certificate_order", sa.Column("lifetime", sa.Integer(), nullable=True))
    op.add_column("certificate_order", sa.Column("wishes", sa.String(), nullable=True))
    # Before the PEM columns, which fill pages: the whole table is written anew.
    with op.batch_alter_table("version", recreate="always") as batch:
        batch.add_column(
            sa.Column("profile", sa.String(), nullable=True), insert_after="created_at"
        )
        batch.add_column(sa.Column("wishes", sa.String(), nullable=True), insert_after="profile")
