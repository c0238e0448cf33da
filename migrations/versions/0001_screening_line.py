"""The screening line: platforms, screenings, findings, events and their deliveries, and the clock."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# The only clock SQL reads. Sessions of tests may move it; nothing in the product sets the offset.
NOW = """
CREATE FUNCTION assay_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT now() + coalesce(nullif(current_setting('assay.clock_offset', true), ''), '0')::interval
$$
"""

# RFC 9562, section 5.7, for rows that SQL itself inserts.
UUID7 = """
CREATE FUNCTION assay_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1), 'hex')::uuid
$$
"""


def upgrade() -> None:
    op.execute(NOW)
    op.execute(UUID7)
    op.create_table(
        "platforms",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("weight", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("rate_per_second", sa.Double(), nullable=True),
        sa.Column("burst", sa.Integer(), nullable=True),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("buckets", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("ck_platforms_weight_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_platforms")),
        sa.UniqueConstraint("name", name=op.f("uq_platforms_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_api_keys_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_keys_secret_hash")),
    )
    op.create_index("ix_api_keys_platform_id", "api_keys", ["platform_id"], unique=False)
    op.create_table(
        "endpoints",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("types", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ordered", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("throttled_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_endpoints_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_index("ix_endpoints_platform_id", "endpoints", ["platform_id"], unique=False)
    op.create_table(
        "idempotency_records",
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"],
            ["platforms.id"],
            name=op.f("fk_idempotency_records_platform_id_platforms"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("platform_id", "scope", "key", name=op.f("pk_idempotency_records")),
    )
    op.create_index("ix_idempotency_records_created_at", "idempotency_records", ["created_at"], unique=False)
    op.create_table(
        "screenings",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("priority", sa.Text(), server_default=sa.text("'normal'"), nullable=False),
        sa.Column("rank", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("strikes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("alone", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("legal_hold", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("client_ref", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("error_retryable", sa.Boolean(), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state in ('succeeded','failed')) = (finished_at is not null)", name=op.f("ck_screenings_finished")
        ),
        sa.CheckConstraint("priority in ('high','normal','bulk')", name=op.f("ck_screenings_priority")),
        sa.CheckConstraint("state in ('queued','running','succeeded','failed')", name=op.f("ck_screenings_state")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_screenings_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_screenings")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_screenings_alone",
        "screenings",
        ["rank"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' and alone"),
    )
    op.create_index(
        "ix_screenings_client_ref",
        "screenings",
        ["platform_id", "client_ref"],
        unique=False,
        postgresql_where=sa.text("client_ref is not null"),
    )
    op.create_index(
        "ix_screenings_live", "screenings", ["due_at"], unique=False, postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index("ix_screenings_platform_created", "screenings", ["platform_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_screenings_queued",
        "screenings",
        ["platform_id", "rank"],
        unique=False,
        postgresql_where=sa.text("state = 'queued' and not alone"),
    )
    op.create_index(
        "ix_screenings_running", "screenings", ["due_at"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_table(
        "turns",
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), server_default=sa.text("'epoch'"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_turns_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("platform_id", name=op.f("pk_turns")),
    )
    op.create_table(
        "attempts",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("alone", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_attempts_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("screening_id", "attempt", name=op.f("pk_attempts")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("screening_id", sa.UUID(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_events_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_events_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_platform_created", "events", ["platform_id", "created_at", "id"], unique=False)
    op.create_index(
        "uq_events_terminal",
        "events",
        ["screening_id"],
        unique=True,
        postgresql_where=sa.text("type in ('screening.completed','screening.failed')"),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("truth", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("truth in ('authentic','fake','unknown')", name=op.f("ck_feedback_truth")),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_feedback_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index("ix_feedback_screening_id", "feedback", ["screening_id"], unique=False)
    op.create_table(
        "findings",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("calibration_id", sa.Text(), nullable=True),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("area_fraction", sa.Double(), nullable=False),
        sa.Column("extent", sa.Text(), nullable=False),
        sa.Column("mask_verdict_conflict", sa.Boolean(), nullable=False),
        sa.Column("regions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("mask_key", sa.Text(), nullable=False),
        sa.Column("mask_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("heatmap_key", sa.Text(), nullable=False),
        sa.Column("heatmap_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=False),
        sa.Column("preprocess", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("decode_ms", sa.Integer(), nullable=False),
        sa.Column("inference_ms", sa.Integer(), nullable=False),
        sa.Column("reused_from", sa.UUID(), nullable=True),
        sa.Column("policy_version", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint("label in ('authentic','fake','inconclusive')", name=op.f("ck_findings_label")),
        sa.CheckConstraint("score between 0 and 1", name=op.f("ck_findings_score")),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_findings_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_findings_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("screening_id", name=op.f("pk_findings")),
    )
    op.create_index("ix_findings_weights", "findings", ["platform_id", "weights_sha256", "preprocess"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("blob_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=True),
        sa.Column("orientation_applied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pdq_hash", sa.LargeBinary(), nullable=True),
        sa.Column("pdq_quality", sa.SmallInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_images_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_images_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
    )
    op.create_index("ix_images_sha256", "images", ["platform_id", "sha256"], unique=False)
    op.create_index("uq_images_screening_id", "images", ["screening_id"], unique=True)
    op.create_table(
        "submissions",
        sa.Column("screening_id", sa.UUID(), nullable=False),
        sa.Column("source", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_submissions_screening_id_screenings"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("screening_id", name=op.f("pk_submissions")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.UUID(), server_default=sa.text("assay_uuid7()"), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("platform_id", sa.UUID(), nullable=False),
        sa.Column("replay", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.CheckConstraint(
            "state in ('pending','sending','delivered','dead','cancelled')", name=op.f("ck_deliveries_state")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["endpoints.id"], name=op.f("fk_deliveries_endpoint_id_endpoints"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_deliveries_event_id_events"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["platform_id"], ["platforms.id"], name=op.f("fk_deliveries_platform_id_platforms"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state in ('pending','sending')"),
    )
    op.create_index("ix_deliveries_endpoint_created", "deliveries", ["endpoint_id", "created_at", "id"], unique=False)
    op.create_index(
        "uq_deliveries_event_id_endpoint_id_replay", "deliveries", ["event_id", "endpoint_id", "replay"], unique=True
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("assay_now()"), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
            name=op.f("fk_delivery_attempts_delivery_id_deliveries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "attempt", name=op.f("pk_delivery_attempts")),
    )


def downgrade() -> None:
    op.drop_table("delivery_attempts")
    op.drop_index("uq_deliveries_event_id_endpoint_id_replay", table_name="deliveries")
    op.drop_index("ix_deliveries_endpoint_created", table_name="deliveries")
    op.drop_index(
        "ix_deliveries_due", table_name="deliveries", postgresql_where=sa.text("state in ('pending','sending')")
    )
    op.drop_table("deliveries")
    op.drop_table("submissions")
    op.drop_index("uq_images_screening_id", table_name="images")
    op.drop_index("ix_images_sha256", table_name="images")
    op.drop_table("images")
    op.drop_index("ix_findings_weights", table_name="findings")
    op.drop_table("findings")
    op.drop_index("ix_feedback_screening_id", table_name="feedback")
    op.drop_table("feedback")
    op.drop_index(
        "uq_events_terminal",
        table_name="events",
        postgresql_where=sa.text("type in ('screening.completed','screening.failed')"),
    )
    op.drop_index("ix_events_platform_created", table_name="events")
    op.drop_table("events")
    op.drop_table("attempts")
    op.drop_table("turns")
    op.drop_index("ix_screenings_running", table_name="screenings", postgresql_where=sa.text("state = 'running'"))
    op.drop_index(
        "ix_screenings_queued", table_name="screenings", postgresql_where=sa.text("state = 'queued' and not alone")
    )
    op.drop_index("ix_screenings_platform_created", table_name="screenings")
    op.drop_index("ix_screenings_live", table_name="screenings", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index(
        "ix_screenings_client_ref", table_name="screenings", postgresql_where=sa.text("client_ref is not null")
    )
    op.drop_index(
        "ix_screenings_alone", table_name="screenings", postgresql_where=sa.text("state = 'queued' and alone")
    )
    op.drop_table("screenings")
    op.drop_index("ix_idempotency_records_created_at", table_name="idempotency_records")
    op.drop_table("idempotency_records")
    op.drop_index("ix_endpoints_platform_id", table_name="endpoints")
    op.drop_table("endpoints")
    op.drop_index("ix_api_keys_platform_id", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("platforms")
    op.execute("DROP FUNCTION assay_uuid7()")
    op.execute("DROP FUNCTION assay_now()")
