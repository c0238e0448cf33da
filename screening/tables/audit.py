"""Who did what, in an order that nobody can change unnoticed?"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from screening.tables.base import Base


class AuditEntry(Base):
    """One act. `hash` covers every other column and the hash before it; a trigger refuses UPDATE, DELETE and TRUNCATE.

    No foreign keys: the trail outlives what it speaks of.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_subject", "subject", "sequence"),
        Index("ix_audit_entries_platform", "platform_id", "sequence"),
    )

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    platform_id: Mapped[UUID | None]
    actor: Mapped[str]  # rvr_..., key_..., operator, system
    action: Mapped[str]  # policy.put, review.decided, reviewer.granted, ...
    subject: Mapped[str]  # what it was done to: rev_..., plt_..., ...
    details: Mapped[str]  # canonical JSON, as text: what was hashed is what is stored
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
