"""What the clean-up of a record needs where the provider makes name and value itself."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dns_record", sa.Column("domain", sa.String(), nullable=True))
    op.add_column("dns_record", sa.Column("key_authorization", sa.String(), nullable=True))
