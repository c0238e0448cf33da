"""Erasure: when the bytes of an erased screening were known to be gone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UNPURGED = sa.text("erased_at is not null and purged_at is null")


def upgrade() -> None:
    op.add_column("screenings", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_screenings_unpurged", "screenings", ["id"], postgresql_where=UNPURGED)


def downgrade() -> None:
    op.drop_index("ix_screenings_unpurged", table_name="screenings", postgresql_where=UNPURGED)
    op.drop_column("screenings", "purged_at")
