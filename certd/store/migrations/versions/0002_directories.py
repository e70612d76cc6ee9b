"""At which directory an order was made, and a certificate issued: a CA's name may move on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("certificate_order", sa.Column("directory", sa.String(), nullable=True))
    # Before the PEM columns, which fill pages: the whole table is written anew.
    with op.batch_alter_table("version", recreate="always") as batch:
        batch.add_column(sa.Column("directory", sa.String(), nullable=True), insert_after="ca")
