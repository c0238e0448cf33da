"""Who are the reviewers, and which platforms may they work for? Set by the operator, on the command line."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import audit
from screening.actors import Actor, Grant, Role
from screening.errors import AssayError
from screening.ids import Prefix, encode
from screening.tables import Platform, Reviewer, ReviewerGrant, ReviewerSession, assay_now

SHORTEST_PASSWORD = 12  # NIST SP 800-63B asks for 8 at least; length is what helps, so no rules about characters
LONGEST_PASSWORD = 256
_HASHER = PasswordHasher()  # argon2id with the parameters of RFC 9106, section 4, second choice
# Verified when nobody of that address exists, so that the answer takes as long as for somebody who does.
_NOBODY = _HASHER.hash("nobody has this password")


class UnfitPasswordError(AssayError):
    """The password is too short or too long."""


class TakenError(AssayError):
    """There is a reviewer of this address already."""


@dataclass(frozen=True, slots=True)
class Granted:
    """One platform a reviewer works for."""

    platform: Platform
    role: Role
    alias: str


def address(email: str) -> str:
    """An e-mail address as it is stored and compared."""
    return email.strip().lower()


def hash_password(password: str) -> str:
    """Argon2id. Raises UnfitPasswordError."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UnfitPasswordError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    return _HASHER.hash(password)


def verify_password(password_hash: str | None, password: str) -> bool:
    """Whether the password fits; as slow for None, which nothing fits."""
    try:
        fits = _HASHER.verify(password_hash or _NOBODY, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return False
    return fits and password_hash is not None


def create(session: Session, email: str, name: str, password: str | None, *, actor: str = "operator") -> Reviewer:
    """A new reviewer without grants; no password means sign-in through the identity provider alone."""
    if by_email(session, email) is not None:
        raise TakenError(f"There is a reviewer {address(email)} already.")
    hashed = None if password is None else hash_password(password)
    reviewer = Reviewer(email=address(email), name=name, password_hash=hashed)
    session.add(reviewer)
    session.flush()
    _record(session, reviewer, actor, "reviewer.created")
    return reviewer


def by_email(session: Session, email: str) -> Reviewer | None:
    """The reviewer of this address, or None."""
    return session.scalars(select(Reviewer).where(Reviewer.email == address(email))).first()


def set_password(session: Session, reviewer: Reviewer, hashed: str, *, actor: str, keep: bytes | None = None) -> None:
    """Replace the password and end every session but the one kept."""
    reviewer.password_hash = hashed
    sign_out(session, reviewer, keep=keep)
    _record(session, reviewer, actor, "reviewer.password_set")


def sign_out(session: Session, reviewer: Reviewer, *, keep: bytes | None = None) -> None:
    """End the reviewer's sessions, but the one whose hash is kept."""
    sessions = delete(ReviewerSession).where(ReviewerSession.reviewer_id == reviewer.id)
    session.execute(sessions if keep is None else sessions.where(ReviewerSession.token_hash != keep))


def disable(session: Session, reviewer: Reviewer, *, disabled: bool, actor: str = "operator") -> None:
    """Shut a reviewer out at once, or let them in again; what they decided stays."""
    reviewer.disabled_at = assay_now() if disabled else None
    sign_out(session, reviewer)
    session.flush()
    _record(session, reviewer, actor, "reviewer.disabled" if disabled else "reviewer.enabled")


def grant(
    session: Session, reviewer: Reviewer, platform_id: UUID, role: Role, *, actor: str = "operator"
) -> ReviewerGrant:
    """Give or change the role on a platform. The alias of an earlier grant comes back: the trail stays readable."""
    values = {"role": role.value, "revoked_at": None}
    statement = insert(ReviewerGrant).values(
        reviewer_id=reviewer.id, platform_id=platform_id, alias=uuid4(), **values
    )  # fmt: skip
    session.execute(statement.on_conflict_do_update(index_elements=["reviewer_id", "platform_id"], set_=values))
    _record(session, reviewer, actor, "reviewer.granted", platform_id, role=role.value)
    return session.get_one(ReviewerGrant, (reviewer.id, platform_id), populate_existing=True)


def revoke(session: Session, reviewer: Reviewer, platform_id: UUID, *, actor: str = "operator") -> bool:
    """Take the role on a platform away; False where there was none."""
    row = session.get(ReviewerGrant, (reviewer.id, platform_id))
    if row is None or row.revoked_at is not None:
        return False
    row.revoked_at = assay_now()
    session.flush()
    _record(session, reviewer, actor, "reviewer.revoked", platform_id)
    return True


def granted(session: Session, reviewer_id: UUID) -> list[Granted]:
    """The platforms a reviewer works for, by name."""
    statement = (
        select(Platform, ReviewerGrant)
        .join(ReviewerGrant, ReviewerGrant.platform_id == Platform.id)
        .where(ReviewerGrant.reviewer_id == reviewer_id, ReviewerGrant.revoked_at.is_(None))
        .order_by(Platform.name)
    )
    return [
        Granted(platform, Role(row.role), encode(Prefix.REVIEWER, row.alias))
        for platform, row in session.execute(statement)
    ]


def actor_of(reviewer: Reviewer, grants: list[Granted]) -> Actor:
    """A reviewer as the queue knows them."""
    return Actor(reviewer.id, {g.platform.id: Grant(g.role, g.alias) for g in grants})


def _record(
    session: Session, reviewer: Reviewer, actor: str, action: str, platform_id: UUID | None = None, **details: str
) -> None:
    subject = encode(Prefix.REVIEWER, reviewer.id)
    audit.append(session, actor=actor, action=action, subject=subject, platform_id=platform_id, details=dict(details))
