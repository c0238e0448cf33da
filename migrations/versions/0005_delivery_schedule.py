"""Deliveries: the place in the schedule, and indexes to claim by endpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PENDING = sa.text("state = 'pending'")
SENDING = sa.text("state = 'sending'")
UNFINISHED = sa.text("state in ('pending','sending')")


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.drop_index("ix_deliveries_due", table_name="deliveries", postgresql_where=UNFINISHED)
    op.create_index("ix_deliveries_waiting", "deliveries", ["endpoint_id", "due_at"], postgresql_where=PENDING)
    op.create_index(
        "ix_deliveries_unfinished", "deliveries", ["endpoint_id", "created_at", "id"], postgresql_where=UNFINISHED
    )
    op.create_index("ix_deliveries_sending", "deliveries", ["due_at"], postgresql_where=SENDING)


def downgrade() -> None:
    op.drop_index("ix_deliveries_sending", table_name="deliveries", postgresql_where=SENDING)
    op.drop_index("ix_deliveries_unfinished", table_name="deliveries", postgresql_where=UNFINISHED)
    op.drop_index("ix_deliveries_waiting", table_name="deliveries", postgresql_where=PENDING)
    op.create_index("ix_deliveries_due", "deliveries", ["due_at"], postgresql_where=UNFINISHED)
    op.drop_column("deliveries", "failures")
