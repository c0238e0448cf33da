"""Reviewers, their grants and sessions, and what they leave: goldens, corrections, exposure."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reviewers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("oidc_issuer", sa.Text(), nullable=True),
        sa.Column("oidc_subject", sa.Text(), nullable=True),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_reviewers_email_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviewers")),
        sa.UniqueConstraint("email", name=op.f("uq_reviewers_email")),
    )
    op.create_index("uq_reviewers_oidc", "reviewers", ["oidc_issuer", "oidc_subject"], unique=True)
    op.create_table(
        "sign_in_attempts",
        sa.Column("email_hash", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.SmallInteger(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.PrimaryKeyConstraint("email_hash", name=op.f("pk_sign_in_attempts")),
    )
    op.create_table(
        "reviewer_grants",
        sa.Column("reviewer_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("alias", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role in ('reviewer','lead','admin')", name=op.f("ck_reviewer_grants_role")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_reviewer_grants_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reviewer_id"], ["reviewers.id"], name=op.f("fk_reviewer_grants_reviewer_id_reviewers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("reviewer_id", "platform_id", name=op.f("pk_reviewer_grants")),
        sa.UniqueConstraint("alias", name=op.f("uq_reviewer_grants_alias")),
    )
    op.create_table(
        "reviewer_sessions",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reviewer_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["reviewer_id"],
            ["reviewers.id"],
            name=op.f("fk_reviewer_sessions_reviewer_id_reviewers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_reviewer_sessions")),
    )
    op.create_index("ix_reviewer_sessions_reviewer_id", "reviewer_sessions", ["reviewer_id"], unique=False)
    op.create_table(
        "goldens",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("truth", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("truth in ('authentic','fake')", name=op.f("ck_goldens_truth")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_goldens_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_goldens_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("screening_id", name=op.f("pk_goldens")),
    )
    op.create_index(
        "ix_goldens_platform_created", "goldens", ["platform_id", "created_at", "screening_id"], unique=False
    )
    op.create_table(
        "corrections",
        sa.Column("review_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("blob_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("iou", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_corrections_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_corrections_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "version", name=op.f("pk_corrections")),
    )
    op.create_index("ix_corrections_screening_id", "corrections", ["screening_id"], unique=False)
    op.create_table(
        "exposures",
        sa.Column("review_id", sa.UUID(), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_exposures_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "actor_id", name=op.f("pk_exposures")),
    )


def downgrade() -> None:
    op.drop_table("exposures")
    op.drop_index("ix_corrections_screening_id", table_name="corrections")
    op.drop_table("corrections")
    op.drop_index("ix_goldens_platform_created", table_name="goldens")
    op.drop_table("goldens")
    op.drop_index("ix_reviewer_sessions_reviewer_id", table_name="reviewer_sessions")
    op.drop_table("reviewer_sessions")
    op.drop_table("reviewer_grants")
    op.drop_table("sign_in_attempts")
    op.drop_index("uq_reviewers_oidc", table_name="reviewers")
    op.drop_table("reviewers")
