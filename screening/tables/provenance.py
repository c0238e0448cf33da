"""What does the file itself say about where it comes from?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from screening.tables.base import Base, assay_now


class Provenance(Base):
    """What was read from one file beside its pixels. Absent where nothing could be read, which concludes nothing."""

    __tablename__ = "provenances"

    screening_id: Mapped[UUID] = mapped_column(ForeignKey("screenings.id", ondelete="CASCADE"), primary_key=True)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"))
    c2pa: Mapped[dict[str, Any]]  # {"state", "generator", "claims": [{"label", "text"}], ...}
    exif: Mapped[list[dict[str, Any]]]  # [{"name", "value"}], without the position
    gps: Mapped[dict[str, Any] | None]  # {"latitude", "longitude"}: shown on request only, and the request is recorded
    jpeg: Mapped[dict[str, Any] | None]  # {"quality", "tables", "standard"}
    thumbnail: Mapped[dict[str, Any] | None]  # {"present", "mismatch", "distance"}
    conflicts: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
