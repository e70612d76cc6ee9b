"""What is served is looked at again, and its end decides whether a window can be waited for.

What was verified before is looked at once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("target", sa.Column("until", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE target SET until = (SELECT not_after FROM version "
        "WHERE version.lineage = target.lineage AND version.number = target.serving)"
    )
    op.execute("UPDATE target SET retry_at = 0 WHERE phase = 'verified'")
    op.execute(
        "UPDATE lineage SET due_at = 0 WHERE configured AND name IN "
        "(SELECT lineage FROM target WHERE phase = 'verified')"
    )
