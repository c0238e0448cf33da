"""Policies and their rulings, reviews and decisions, and the audit chain."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The chain tells whether somebody altered an entry; this keeps the product itself, and every mistake, from doing so.
APPEND_ONLY = """
CREATE FUNCTION assay_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""
TRIGGER = """
CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
   FOR EACH STATEMENT EXECUTE FUNCTION assay_append_only()
"""


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_entries")),
    )
    op.create_index("ix_audit_entries_platform", "audit_entries", ["platform_id", "sequence"], unique=False)
    op.create_index("ix_audit_entries_subject", "audit_entries", ["subject", "sequence"], unique=False)
    op.create_table(
        "kill_switches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("engaged", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kill_switches")),
    )
    op.create_table(
        "policies",
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_policies_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", "version", name=op.f("pk_policies")),
    )
    op.create_table(
        "standings",
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("shadow_version", sa.Integer(), nullable=True),
        sa.Column("latest_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_standings_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", name=op.f("pk_standings")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'first'"), nullable=False),
        sa.Column("lead_only", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("risk", sa.Double(), nullable=False),
        sa.Column("rank", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claim", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claimed_by", sa.UUID(), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settles_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("skips", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("golden_truth", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state in ('claimed','settling')) = (claimed_by is not null)", name=op.f("ck_reviews_claimed")
        ),
        sa.CheckConstraint("stage in ('first','second','arbitration')", name=op.f("ck_reviews_stage")),
        sa.CheckConstraint(
            "state in ('pending','claimed','settling','decided','withdrawn')", name=op.f("ck_reviews_state")
        ),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_reviews_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_reviews_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_reviews_claimed",
        "reviews",
        ["claimed_by"],
        unique=False,
        postgresql_where=sa.text("state in ('claimed','settling')"),
    )
    op.create_index(
        "ix_reviews_lease", "reviews", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'claimed'")
    )
    op.create_index(
        "ix_reviews_pending",
        "reviews",
        ["platform_id", "lead_only", "rank"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_reviews_pending_age",
        "reviews",
        ["platform_id", "queue", "lead_only", "created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_reviews_pending_due",
        "reviews",
        ["platform_id", "queue", "lead_only", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_reviews_pending_queue",
        "reviews",
        ["platform_id", "queue", "lead_only", "rank"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_reviews_platform_created", "reviews", ["platform_id", "created_at", "id"], unique=False)
    op.create_index("ix_reviews_screening", "reviews", ["screening_id"], unique=False)
    op.create_index(
        "ix_reviews_settling", "reviews", ["settles_at"], unique=False, postgresql_where=sa.text("state = 'settling'")
    )
    op.create_index(
        "uq_reviews_screening_id",
        "reviews",
        ["screening_id"],
        unique=True,
        postgresql_where=sa.text("golden_truth is null"),
    )
    op.create_table(
        "shadow_rulings",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("guard", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("outcome in ('allow','review','block')", name=op.f("ck_shadow_rulings_outcome")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_shadow_rulings_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"],
            ["screenings.id"],
            name=op.f("fk_shadow_rulings_screening_id_screenings"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("screening_id", "version", name=op.f("pk_shadow_rulings")),
    )
    op.create_index(
        "ix_shadow_rulings_version", "shadow_rulings", ["platform_id", "version", "created_at"], unique=False
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("review_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("mask_feedback", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("bulk_id", sa.UUID(), nullable=True),
        sa.Column("reverses", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("action in ('allow','label','block')", name=op.f("ck_decisions_action")),
        sa.CheckConstraint("mask_feedback in ('right','wrong')", name=op.f("ck_decisions_mask_feedback")),
        sa.CheckConstraint("verdict in ('authentic','fake')", name=op.f("ck_decisions_verdict")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_decisions_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["reverses"], ["decisions.id"], name=op.f("fk_decisions_reverses_decisions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_decisions_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decisions")),
    )
    op.create_index("ix_decisions_actor", "decisions", ["actor_id", "created_at"], unique=False)
    op.create_index("ix_decisions_platform_created", "decisions", ["platform_id", "created_at", "id"], unique=False)
    op.create_index("ix_decisions_review_id", "decisions", ["review_id", "created_at"], unique=False)
    op.create_table(
        "passings",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("review_id", sa.UUID(), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("kind in ('skip','escalate')", name=op.f("ck_passings_kind")),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_passings_review_id_reviews"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passings")),
    )
    op.create_index("ix_passings_review_id", "passings", ["review_id", "actor_id"], unique=False)
    op.add_column("findings", sa.Column("guard", sa.Text(), nullable=True))
    op.add_column(
        "findings", sa.Column("provenance_conflict", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.execute(APPEND_ONLY)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.drop_column("findings", "provenance_conflict")
    op.drop_column("findings", "guard")
    op.drop_index("ix_passings_review_id", table_name="passings")
    op.drop_table("passings")
    op.drop_index("ix_decisions_review_id", table_name="decisions")
    op.drop_index("ix_decisions_platform_created", table_name="decisions")
    op.drop_index("ix_decisions_actor", table_name="decisions")
    op.drop_table("decisions")
    op.drop_index("ix_shadow_rulings_version", table_name="shadow_rulings")
    op.drop_table("shadow_rulings")
    op.drop_index("uq_reviews_screening_id", table_name="reviews", postgresql_where=sa.text("golden_truth is null"))
    op.drop_index("ix_reviews_settling", table_name="reviews", postgresql_where=sa.text("state = 'settling'"))
    op.drop_index("ix_reviews_screening", table_name="reviews")
    op.drop_index("ix_reviews_platform_created", table_name="reviews")
    op.drop_index("ix_reviews_pending_queue", table_name="reviews", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_reviews_pending_due", table_name="reviews", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_reviews_pending_age", table_name="reviews", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_reviews_pending", table_name="reviews", postgresql_where=sa.text("state = 'pending'"))
    op.drop_index("ix_reviews_lease", table_name="reviews", postgresql_where=sa.text("state = 'claimed'"))
    op.drop_index(
        "ix_reviews_claimed", table_name="reviews", postgresql_where=sa.text("state in ('claimed','settling')")
    )
    op.drop_table("reviews")
    op.drop_table("standings")
    op.drop_table("policies")
    op.drop_table("kill_switches")
    op.drop_index("ix_audit_entries_subject", table_name="audit_entries")
    op.drop_index("ix_audit_entries_platform", table_name="audit_entries")
    op.drop_table("audit_entries")
    op.execute("DROP FUNCTION assay_append_only()")
