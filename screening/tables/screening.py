"""Where does one screening live? Its job state in a narrow, busy row; all else in wide rows written once."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column, relationship

from screening.ids import uuid7
from screening.tables.base import Base, assay_now
from screening.tables.review import Review


class State(StrEnum):
    """`queued -> running -> succeeded | failed`; a released or rescued row goes back to `queued`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


TERMINAL = (State.SUCCEEDED, State.FAILED)
_QUEUED = "texteq(state, 'queued')"


class Priority(StrEnum):
    """What the platform asked for; see `jobs.HEAD_START` for what it means."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"


class Screening(Base):
    """The job row. `screening/jobs.py` alone changes it.

    `due_at` is when it may next be claimed while queued, and when its lease ends while running. `rank` orders it among
    its platform's rows: creation time less the head start of its priority, so that waiting alone lets bulk overtake.
    `attempt` is the fencing token and nothing else; `strikes` counts what is the image's own fault.
    """

    __tablename__ = "screenings"
    __table_args__ = (
        CheckConstraint("state in ('queued','running','succeeded','failed')", name="state"),
        CheckConstraint("priority in ('high','normal','bulk')", name="priority"),
        CheckConstraint("(state in ('succeeded','failed')) = (finished_at is not null)", name="finished"),
        Index("ix_screenings_platform_created", "platform_id", "created_at", "id"),
        Index("ix_screenings_client_ref", "platform_id", "client_ref", postgresql_where=text("client_ref is not null")),
        # What waits is asked for by a function: of `=`, stale statistics may say that it finds nothing.
        Index("ix_screenings_queued", "platform_id", "rank", postgresql_where=text(f"{_QUEUED} and not alone")),
        Index("ix_screenings_alone", "rank", postgresql_where=text("state = 'queued' and alone")),
        Index("ix_screenings_running", "due_at", postgresql_where=text("state = 'running'")),
        Index("ix_screenings_unpurged", "id", postgresql_where=text("erased_at is not null and purged_at is null")),
        Index("ix_screenings_live", "due_at", postgresql_where=text(_QUEUED)),
        # For lists by state. Almost every row has succeeded, and those the index above walks well enough.
        Index(
            "ix_screenings_unsucceeded",
            "platform_id",
            "state",
            "created_at",
            "id",
            postgresql_where=text("state <> 'succeeded'"),
        ),
        # Live rows are updated several times; free space keeps those updates on their page (HOT).
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(server_default=text("'queued'"))
    priority: Mapped[str] = mapped_column(server_default=text("'normal'"))
    rank: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    announced_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    strikes: Mapped[int] = mapped_column(SmallInteger, default=0, server_default=text("0"))
    alone: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    legal_hold: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    client_ref: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    started_at: Mapped[datetime | None]  # of the latest attempt
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    error_retryable: Mapped[bool | None]
    erased_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]  # when the bytes of an erased screening were known to be gone

    submission: Mapped["Submission"] = relationship(lazy="raise")
    image: Mapped["Image | None"] = relationship(lazy="raise")
    finding: Mapped["Finding | None"] = relationship(lazy="raise")
    # Comes along by itself, so that every reader of a screening can show it; golden items are nobody's review.
    review: Mapped["Review | None"] = relationship(
        lazy="selectin",
        primaryjoin="and_(Screening.id == foreign(Review.screening_id), Review.golden_truth.is_(None))",
        viewonly=True,
        uselist=False,
    )


class Submission(Base):
    """What the platform sent beside the pixels. Written once."""

    __tablename__ = "submissions"

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    # A source is fetched by the worker: {"url": ...} or {"object": "s3://..."}; None for an uploaded file.
    source: Mapped[dict[str, Any] | None]
    details: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    filename: Mapped[str | None]
    traceparent: Mapped[str | None]


class Image(Base):
    """The bytes of one screening; never shared, so that erasing one erases one."""

    __tablename__ = "images"
    __table_args__ = (
        Index("ix_images_sha256", "platform_id", "sha256"),
        Index("uq_images_screening_id", "screening_id", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"))
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    blob_key: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    size: Mapped[int] = mapped_column("bytes")  # in bytes
    format: Mapped[str]  # jpeg png webp avif gif tiff bmp
    width: Mapped[int]  # upright
    height: Mapped[int]
    frames: Mapped[int | None]  # counted by the worker
    orientation_applied: Mapped[bool] = mapped_column(server_default=text("false"))
    pdq_hash: Mapped[bytes | None] = mapped_column(LargeBinary)  # 32 bytes
    pdq_quality: Mapped[int | None] = mapped_column(SmallInteger)
    # The hashes of the image turned by 90, 180 and 270 degrees and of all four mirrored: 7 x 32 bytes, see `similar`.
    pdq_dihedral: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Attempt(Base):
    """One claim of one screening: the timeline, and the evidence when something goes wrong."""

    __tablename__ = "attempts"

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    alone: Mapped[bool]
    started_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]  # succeeded | failed | released | expired | fenced
    detail: Mapped[str | None]


def score_band(score: ColumnElement[float] | InstrumentedAttribute[float]) -> ColumnElement[int]:
    """Which of twenty equal bands a score lies in: within one, an index keeps the order of pages."""
    return func.width_bucket(score, literal_column("0::float8"), literal_column("1::float8"), literal_column("20"))


class Finding(Base):
    """What the detector said, once, together with what said it."""

    __tablename__ = "findings"
    __table_args__ = (
        CheckConstraint("label in ('authentic','fake','inconclusive')", name="label"),
        CheckConstraint("score between 0 and 1", name="score"),
        Index("ix_findings_recorded", "platform_id", "created_at", "screening_id"),
        Index("ix_findings_weights", "platform_id", "weights_sha256", "preprocess"),
        Index("ix_findings_label", "platform_id", "label", "accepted_at", "screening_id"),
        Index("ix_findings_outcome", "platform_id", "outcome", "accepted_at", "screening_id"),
        Index(
            "ix_findings_score_band",
            "platform_id",
            text("width_bucket(score, 0::float8, 1::float8, 20)"),
            "accepted_at",
            "screening_id",
            postgresql_include=["score"],
        ),
    )

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    label: Mapped[str]
    score: Mapped[float]
    probability: Mapped[float | None]
    calibration_id: Mapped[str | None]
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    area_fraction: Mapped[float]
    extent: Mapped[str]  # none | local | whole | unlocalized
    mask_verdict_conflict: Mapped[bool]
    regions: Mapped[list[dict[str, Any]]]
    mask_key: Mapped[str]
    mask_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    heatmap_key: Mapped[str]
    heatmap_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    model: Mapped[str]
    weights_sha256: Mapped[str]
    preprocess: Mapped[str]
    service: Mapped[str]
    decode_ms: Mapped[int]
    inference_ms: Mapped[int]
    reused_from: Mapped[UUID | None]  # an exact duplicate's screening, whose finding was copied without the GPU
    policy_version: Mapped[int | None]
    outcome: Mapped[str | None]  # allow | review | block
    rule: Mapped[str | None]
    guard: Mapped[str | None]  # why the outcome is not what the rule alone said; see `rules.Guard`
    # Signed as captured by a camera, and yet found fake: never to be decided by a machine alone.
    provenance_conflict: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    # The screening's `created_at`, so that a list filtered by verdict walks one index in page order.
    accepted_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Feedback(Base):
    """What the platform says the truth was. Several may come; the latest counts."""

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint("truth in ('authentic','fake','unknown')", name="truth"),
        Index("ix_feedback_screening_id", "screening_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"))
    truth: Mapped[str]
    note: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
