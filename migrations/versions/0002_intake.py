"""Intake: token buckets, and lists by state and verdict."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rate_buckets",
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_rate_buckets_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", name=op.f("pk_rate_buckets")),
        prefixes=["UNLOGGED"],
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "ix_screenings_unsucceeded",
        "screenings",
        ["platform_id", "state", "created_at", "id"],
        postgresql_where=sa.text("state <> 'succeeded'"),
    )
    op.add_column(
        "findings",
        sa.Column("accepted_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
    )
    op.execute("UPDATE findings f SET accepted_at = s.created_at FROM screenings s WHERE s.id = f.screening_id")
    op.create_index("ix_findings_label", "findings", ["platform_id", "label", "accepted_at", "screening_id"])
    op.create_index("ix_findings_outcome", "findings", ["platform_id", "outcome", "accepted_at", "screening_id"])


def downgrade() -> None:
    op.drop_index("ix_findings_outcome", table_name="findings")
    op.drop_index("ix_findings_label", table_name="findings")
    op.drop_column("findings", "accepted_at")
    op.drop_index("ix_screenings_unsucceeded", table_name="screenings")
    op.drop_table("rate_buckets")
