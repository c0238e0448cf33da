"""Who reviews, for which platforms, and are they signed in?"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from screening.ids import uuid7
from screening.tables.base import Base, assay_now


class Reviewer(Base):
    """A person of the operator's. Outside, only the aliases of their grants are known."""

    __tablename__ = "reviewers"
    __table_args__ = (
        Index("uq_reviewers_oidc", "oidc_issuer", "oidc_subject", unique=True),
        CheckConstraint("email = lower(email)", name="email_lower"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str | None]  # argon2id; None: signs in through the identity provider alone
    oidc_issuer: Mapped[str | None]
    oidc_subject: Mapped[str | None]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())


class ReviewerGrant(Base):
    """A role on one platform. `alias` is the reviewer's name there, so that platforms cannot compare notes."""

    __tablename__ = "reviewer_grants"
    __table_args__ = (CheckConstraint("role in ('reviewer','lead','admin')", name="role"),)

    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("reviewers.id", ondelete="CASCADE"), primary_key=True)
    platform_id: Mapped[UUID] = mapped_column(ForeignKey("platforms.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]
    alias: Mapped[UUID] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    revoked_at: Mapped[datetime | None]


class ReviewerSession(Base):
    """A signed-in browser. The cookie holds the token, this row only its hash."""

    __tablename__ = "reviewer_sessions"
    __table_args__ = (Index("ix_reviewer_sessions_reviewer_id", "reviewer_id"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    reviewer_id: Mapped[UUID] = mapped_column(ForeignKey("reviewers.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    seen_at: Mapped[datetime] = mapped_column(server_default=assay_now())
    expires_at: Mapped[datetime]


class SignInAttempt(Base):
    """Wrong passwords against one address, known or not, by its hash: guessing tells nothing about who exists."""

    __tablename__ = "sign_in_attempts"

    email_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    failures: Mapped[int] = mapped_column(SmallInteger)
    locked_until: Mapped[datetime | None]
    last_at: Mapped[datetime] = mapped_column(server_default=assay_now())
