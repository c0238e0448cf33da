"""What happened, who wants to hear it, and whether they have?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from screening.ids import uuid7
from screening.tables.base import Base, assay_now


class Event(Base):
    """Something a platform may want to know. Written in the transaction that made it true, never changed."""

    __tablename__ = "events"
    __table_args__ = (
        # The guarantee "every terminal state has exactly one event" is the database's, not only the code's.
        Index(
            "uq_events_terminal",
            "screening_id",
            unique=True,
            postgresql_where=text("type in ('screening.completed','screening.failed')"),
        ),
        Index("ix_events_platform_created", "platform_id", "created_at", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    screening_id: Mapped[UUID | None] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Endpoint(Base):
    """Where a platform listens."""

    __tablename__ = "endpoints"
    __table_args__ = (Index("ix_endpoints_platform_id", "platform_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    url: Mapped[str]
    description: Mapped[str | None]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))  # empty: every type
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    disabled_at: Mapped[datetime | None]
    ordered: Mapped[bool] = mapped_column(server_default=text("false"))
    throttled_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Delivery(Base):
    """One event on its way to one endpoint. `screening/deliveries.py` alone changes it.

    `due_at` is when it may next be sent while pending, and when its lease ends while sending. `attempt` counts claims;
    `failures` counts answers that were no success, so that a worker that dies costs no place in the schedule.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("state in ('pending','sending','delivered','dead','cancelled')", name="state"),
        Index("uq_deliveries_event_id_endpoint_id_replay", "event_id", "endpoint_id", "replay", unique=True),
        Index("ix_deliveries_endpoint_created", "endpoint_id", "created_at", "id"),
        # Claiming looks at each endpoint's next due rows, or, for an ordered one, at its oldest unfinished row.
        Index("ix_deliveries_waiting", "endpoint_id", "due_at", postgresql_where=text("state = 'pending'")),
        Index(
            "ix_deliveries_unfinished",
            "endpoint_id",
            "created_at",
            "id",
            postgresql_where=text("state in ('pending','sending')"),
        ),
        Index("ix_deliveries_sending", "due_at", postgresql_where=text("state = 'sending'")),
        Index("ix_deliveries_dead", "event_id", "endpoint_id", "replay", postgresql_where=text("state = 'dead'")),
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, server_default=text("assay_uuid7()"))
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    replay: Mapped[int] = mapped_column(server_default=text("0"))  # 0: the first; each replay is a row of its own
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))  # the fencing token, and the key of the log
    failures: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))  # the place in the schedule
    due_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    first_attempt_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class DeliveryAttempt(Base):
    """One try: what was answered, for the log a platform reads."""

    __tablename__ = "delivery_attempts"

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    duration_ms: Mapped[int | None]
    status: Mapped[int | None]  # HTTP status; None where no answer came
    error: Mapped[str | None]  # refused_address, timeout, tls, connect, ...
    response: Mapped[str | None]  # at most 20 kB
