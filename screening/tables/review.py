"""What do people decide, who holds it now, and what did they say?"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from screening.ids import uuid7
from screening.tables.base import Base, assay_now

PENDING = text("state = 'pending'")


class ReviewState(StrEnum):
    """`pending -> claimed -> settling -> decided`; undo claims again, a lapsed lease or a second stage waits again.

    `settling` is the undo window: decided by a person, not yet told to anybody. `withdrawn`: the image was erased.
    """

    PENDING = "pending"
    CLAIMED = "claimed"
    SETTLING = "settling"
    DECIDED = "decided"
    WITHDRAWN = "withdrawn"


class Stage(StrEnum):
    """Whose turn it is: one person, a second who does not see the first, and a lead where the two disagree."""

    FIRST = "first"
    SECOND = "second"
    ARBITRATION = "arbitration"


class Review(Base):
    """One image before people. `screening/reviews.py` and `screening/decisions.py` alone change it.

    `rank` orders what is pending: due time less a head start for risk, fixed at opening, so that waiting alone brings
    everything to the front. `claim` is the fence: it grows with each lease, and the lease token carries it.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("state in ('pending','claimed','settling','decided','withdrawn')", name="state"),
        CheckConstraint("stage in ('first','second','arbitration')", name="stage"),
        CheckConstraint("(state in ('claimed','settling')) = (claimed_by is not null)", name="claimed"),
        # A golden item asks again about an image whose truth is known; otherwise an image is reviewed once.
        Index("uq_reviews_screening_id", "screening_id", unique=True, postgresql_where=text("golden_truth is null")),
        Index("ix_reviews_screening", "screening_id"),
        Index("ix_reviews_pending", "platform_id", "lead_only", "rank", postgresql_where=PENDING),
        Index("ix_reviews_pending_queue", "platform_id", "queue", "lead_only", "rank", postgresql_where=PENDING),
        Index("ix_reviews_pending_due", "platform_id", "queue", "lead_only", "due_at", postgresql_where=PENDING),
        Index("ix_reviews_pending_age", "platform_id", "queue", "lead_only", "created_at", postgresql_where=PENDING),
        Index("ix_reviews_claimed", "claimed_by", postgresql_where=text("state in ('claimed','settling')")),
        Index("ix_reviews_lease", "lease_until", postgresql_where=text("state = 'claimed'")),
        Index("ix_reviews_settling", "settles_at", postgresql_where=text("state = 'settling'")),
        Index("ix_reviews_platform_created", "platform_id", "created_at", "id"),
        {"postgresql_with": {"fillfactor": 70}},
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"))
    queue: Mapped[str]
    state: Mapped[str] = mapped_column(default="pending", server_default=text("'pending'"))
    stage: Mapped[str] = mapped_column(default="first", server_default=text("'first'"))
    lead_only: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    risk: Mapped[float]  # 0..1
    rank: Mapped[datetime]
    due_at: Mapped[datetime]
    claim: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    claimed_by: Mapped[UUID | None]  # a reviewer's id or an API key's
    claimed_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    settles_at: Mapped[datetime | None]
    skips: Mapped[int] = mapped_column(SmallInteger, default=0, server_default=text("0"))
    golden_truth: Mapped[str | None]
    verdict: Mapped[str | None]  # of the final decision
    action: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    decided_at: Mapped[datetime | None]


class Decision(Base):
    """What one person said, once. Undone ones stay, marked; a reversal is a row of its own that names the reversed."""

    __tablename__ = "decisions"
    __table_args__ = (
        CheckConstraint("verdict in ('authentic','fake')", name="verdict"),
        CheckConstraint("action in ('allow','label','block')", name="action"),
        CheckConstraint("mask_feedback in ('right','wrong')", name="mask_feedback"),
        Index("ix_decisions_review_id", "review_id", "created_at"),
        Index("ix_decisions_platform_created", "platform_id", "created_at", "id"),
        Index("ix_decisions_actor", "actor_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    review_id: Mapped[UUID] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    actor_id: Mapped[UUID]
    alias: Mapped[str]  # how the actor is called outside
    stage: Mapped[str]
    verdict: Mapped[str]
    action: Mapped[str]
    reason: Mapped[str | None]
    note: Mapped[str | None]
    mask_feedback: Mapped[str | None]
    seconds: Mapped[float]  # spent on it, see `screening.decisions`
    bulk_id: Mapped[UUID | None]  # decided together with others
    reverses: Mapped[UUID | None] = mapped_column(ForeignKey("decisions.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    undone_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]


class Passing(Base):
    """Somebody looked and passed: a skip or an escalation, with its reason."""

    __tablename__ = "passings"
    __table_args__ = (
        CheckConstraint("kind in ('skip','escalate')", name="kind"),
        Index("ix_passings_review_id", "review_id", "actor_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    review_id: Mapped[UUID] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    actor_id: Mapped[UUID]
    alias: Mapped[str]
    kind: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Golden(Base):
    """A screening whose truth is known, to be asked about again: it measures reviewers, not images."""

    __tablename__ = "goldens"
    __table_args__ = (
        CheckConstraint("truth in ('authentic','fake')", name="truth"),
        Index("ix_goldens_platform_created", "platform_id", "created_at", "screening_id"),
    )

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    truth: Mapped[str]
    alias: Mapped[str]  # who says so
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Correction(Base):
    """A mask as a reviewer redrew it. Versions stay; the newest counts."""

    __tablename__ = "corrections"
    __table_args__ = (Index("ix_corrections_screening_id", "screening_id"),)

    review_id: Mapped[UUID] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"))
    actor_id: Mapped[UUID]
    alias: Mapped[str]
    blob_key: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    iou: Mapped[float]  # with the model's mask; 1 where both are empty
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Exposure(Base):
    """For how long one person had one image unveiled before them."""

    __tablename__ = "exposures"

    review_id: Mapped[UUID] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True)
    actor_id: Mapped[UUID] = mapped_column(primary_key=True)
    seconds: Mapped[float]
