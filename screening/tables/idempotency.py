"""Has this request been made before, and what was the answer?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from screening.tables.base import Base, assay_now


class IdempotencyRecord(Base):
    """One `Idempotency-Key` within its scope (platform, method, path). Without a status it is still running."""

    __tablename__ = "idempotency_records"
    __table_args__ = (Index("ix_idempotency_records_created_at", "created_at"),)

    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)  # "POST /v1/screenings"
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)  # sha256 over the request's meaning
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
