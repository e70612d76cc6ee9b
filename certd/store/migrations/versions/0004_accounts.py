"""Of an account: the key that it is being rolled over to, whether it is over, and its terms."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account", sa.Column("next_key_pem", sa.String(), nullable=True))
    op.add_column("account", sa.Column("deactivated", sa.Boolean(), nullable=True))
    op.add_column("account", sa.Column("terms", sa.String(), nullable=True))
