"""By which rules is a finding judged, and what did rules that act on nothing make of it?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from screening.tables.base import Base, assay_now


class Policy(Base):
    """One version of a platform's policy. Never changed: a finding names the version that judged it."""

    __tablename__ = "policies"

    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class Standing(Base):
    """Which version judges and which only watches. A platform without a row goes by the built-in policy, version 0."""

    __tablename__ = "standings"

    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(server_default=text("0"))
    shadow_version: Mapped[int | None]
    latest_version: Mapped[int] = mapped_column(server_default=text("0"))  # the last number given out


class KillSwitch(Base):
    """While engaged, `block` becomes `review`. The nil UUID stands for every platform at once."""

    __tablename__ = "kill_switches"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    engaged: Mapped[bool]
    reason: Mapped[str | None]
    actor: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=assay_now(), onupdate=assay_now())


class ShadowRuling(Base):
    """What the shadow version would have done; acts on nothing."""

    __tablename__ = "shadow_rulings"
    __table_args__ = (
        CheckConstraint("outcome in ('allow','review','block')", name="outcome"),
        Index("ix_shadow_rulings_version", "platform_id", "version", "created_at"),
    )

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    outcome: Mapped[str]
    rule: Mapped[str]
    guard: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
