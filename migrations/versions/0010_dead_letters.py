"""Dead letters are found without a walk through every delivery that ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["event_id", "endpoint_id", "replay"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_dead", table_name="deliveries")
