"""Who sends images, and what may they do?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from screening.ids import uuid7
from screening.tables.base import Base, assay_now


class Platform(Base):
    """A customer whose data no other platform may see, guess or slow."""

    __tablename__ = "platforms"
    __table_args__ = (CheckConstraint("weight > 0", name="weight_positive"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[int] = mapped_column(default=1, server_default=text("1"))  # its share of each claimed batch
    rate_per_second: Mapped[float | None]  # None: the operator's default
    burst: Mapped[int | None]
    max_queued: Mapped[int | None]  # None: no quota
    retention_days: Mapped[int | None]  # None: kept until erased
    buckets: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default=text("'{}'"))
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Turn(Base):
    """When a platform was last served by a claim: the tie-breaker when more platforms wait than a batch has places.

    Apart from `platforms`, because each claim writes it and a busy row must not be one that requests read.
    """

    __tablename__ = "turns"

    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    served_at: Mapped[datetime] = mapped_column(server_default=text("'epoch'"))


class ApiKey(Base):
    """A bearer key; only its hash is kept. Two may live at a time, so that a rotation needs no pause."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_platform_id", "platform_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    secret_hash: Mapped[bytes] = mapped_column(
        LargeBinary, unique=True
    )  # sha256 of the whole key: it is random, no salt
    hint: Mapped[str]  # its last four characters, to tell keys apart in a list
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
