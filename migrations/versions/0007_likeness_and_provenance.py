"""Dihedral hashes, the order in which findings were recorded, and provenance."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provenances",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("c2pa", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("exif", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("gps", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("jpeg", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("thumbnail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("conflicts", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_provenances_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_provenances_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("screening_id", name=op.f("pk_provenances")),
    )
    op.create_index("ix_findings_recorded", "findings", ["platform_id", "created_at", "screening_id"], unique=False)
    op.add_column("images", sa.Column("pdq_dihedral", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("images", "pdq_dihedral")
    op.drop_index("ix_findings_recorded", table_name="findings")
    op.drop_table("provenances")
