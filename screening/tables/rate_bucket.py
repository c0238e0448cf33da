"""How many requests does a platform have left?"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from screening.tables.base import Base


class RateBucket(Base):
    """A platform's token bucket; see `screening/rate_limits.py`. Lost in a crash, and then full again."""

    __tablename__ = "rate_buckets"
    __table_args__ = ({"prefixes": ["UNLOGGED"], "postgresql_with": {"fillfactor": 50}},)

    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    tokens: Mapped[float]
    refilled_at: Mapped[datetime]
