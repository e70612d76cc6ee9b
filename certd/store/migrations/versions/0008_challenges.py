"""By TLS-ALPN-01 a CA asks for a name, not for a token; one challenge may follow another."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("token", sa.Column("host", sa.String(), nullable=True))
    op.add_column("lineage", sa.Column("challenge", sa.String(), nullable=True))
