"""How is a list by score walked in the order of its pages? By bands of scores, each in that order."""

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the findings by band."""
    op.create_index(
        "ix_findings_score_band",
        "findings",
        ["platform_id", text("width_bucket(score, 0::float8, 1::float8, 20)"), "accepted_at", "screening_id"],
        postgresql_include=["score"],
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_findings_score_band", "findings")
