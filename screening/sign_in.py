"""Is this browser signed in, and who is trying to get in?

An attempt is counted before the password is looked at and forgiven when it was right, so that guesses made at the same
moment are all counted. Known and unknown addresses are counted alike: a lock tells nothing about who exists.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import audit, reviewers
from screening.ids import Prefix, encode
from screening.reviewers import Granted
from screening.tables import Reviewer, ReviewerSession, SignInAttempt, assay_now

FAILURES_ALLOWED = 5
FIRST_LOCK = timedelta(seconds=30)  # doubled with each further failure
LONGEST_LOCK = timedelta(minutes=15)  # bounded: a lock is also a way to keep somebody out
FORGOTTEN_AFTER = timedelta(hours=1)
LIFE = timedelta(hours=12)  # a working day
IDLE = timedelta(hours=2)
SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Knock:
    """An attempt that has been counted. `locked_seconds` is set where it may not even be tried."""

    reviewer_id: UUID | None = None
    password_hash: str | None = None
    locked_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A browser's reviewer."""

    reviewer: Reviewer
    grants: list[Granted]
    token: str


def knock(session: Session, email: str) -> Knock:
    """Count an attempt and say against which hash the password is to be verified (outside any transaction)."""
    attempt = _attempt(session, _hash(reviewers.address(email)))
    now = session.scalars(select(assay_now())).one()
    if attempt.locked_until is not None and attempt.locked_until > now:
        return Knock(locked_seconds=max(1, round((attempt.locked_until - now).total_seconds())))
    if attempt.last_at < now - FORGOTTEN_AFTER:
        attempt.failures = 0
    attempt.failures, attempt.last_at = min(attempt.failures + 1, 1000), now
    if attempt.failures >= FAILURES_ALLOWED:
        doublings = min(attempt.failures - FAILURES_ALLOWED, 10)
        attempt.locked_until = now + min(LONGEST_LOCK, FIRST_LOCK * 2**doublings)
    reviewer = reviewers.by_email(session, email)
    if reviewer is None or reviewer.disabled_at is not None:
        return Knock()
    return Knock(reviewer.id, reviewer.password_hash)


def _attempt(session: Session, email_hash: bytes) -> SignInAttempt:
    session.execute(insert(SignInAttempt).values(email_hash=email_hash, failures=0).on_conflict_do_nothing())
    return session.get_one(SignInAttempt, email_hash, with_for_update=True)


def admit(session: Session, reviewer_id: UUID) -> str:
    """Open a session for somebody who proved who they are; returns its token, this once."""
    reviewer = session.get_one(Reviewer, reviewer_id)
    forgive(session, reviewer.email)
    session.execute(delete(SignInAttempt).where(SignInAttempt.last_at < assay_now() - 24 * FORGOTTEN_AFTER))
    session.execute(delete(ReviewerSession).where(ReviewerSession.expires_at < assay_now()))
    token = secrets.token_urlsafe(32)
    session.add(ReviewerSession(token_hash=_hash(token), reviewer_id=reviewer.id, expires_at=assay_now() + LIFE))
    session.flush()
    subject = encode(Prefix.REVIEWER, reviewer.id)
    audit.append(session, actor=subject, action="reviewer.signed_in", subject=subject)
    return token


def forgive(session: Session, email: str) -> None:
    """Forget the wrong guesses: the right password came."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.email_hash == _hash(reviewers.address(email))))


def by_identity(session: Session, *, issuer: str, subject: str, email: str | None) -> Reviewer | None:
    """The reviewer behind an identity provider's subject; a verified address links a reviewer the first time."""
    linked = select(Reviewer).where(Reviewer.oidc_issuer == issuer, Reviewer.oidc_subject == subject)
    reviewer = session.scalars(linked).first()
    if reviewer is None and email is not None:
        reviewer = reviewers.by_email(session, email)
        if reviewer is not None and reviewer.oidc_subject is None:
            reviewer.oidc_issuer, reviewer.oidc_subject = issuer, subject
            session.flush()
    fits = reviewer is not None and (reviewer.oidc_issuer, reviewer.oidc_subject) == (issuer, subject)
    return reviewer if reviewer is not None and fits and reviewer.disabled_at is None else None


def signed_in(session: Session, token: str) -> SignedIn | None:
    """Who a session's token stands for; None for an unknown, ended or idle one."""
    statement = (
        select(Reviewer, ReviewerSession.seen_at < assay_now() - SEEN_EVERY)
        .join(ReviewerSession, ReviewerSession.reviewer_id == Reviewer.id)
        .where(
            ReviewerSession.token_hash == _hash(token),
            ReviewerSession.expires_at > assay_now(),
            ReviewerSession.seen_at > assay_now() - IDLE,
            Reviewer.disabled_at.is_(None),
        )
    )
    found = session.execute(statement).first()
    if found is None:
        return None
    if found[1]:
        session.execute(
            update(ReviewerSession).where(ReviewerSession.token_hash == _hash(token)).values(seen_at=assay_now())
        )
    return SignedIn(found[0], reviewers.granted(session, found[0].id), token)


def sign_out(session: Session, token: str) -> None:
    """End one session."""
    session.execute(delete(ReviewerSession).where(ReviewerSession.token_hash == _hash(token)))


def csrf_token(token: str) -> str:
    """What a page must send along to prove that it is ours: derived from the cookie, which other sites cannot read."""
    return hmac.new(token.encode(), b"assay csrf", hashlib.sha256).hexdigest()


def csrf_fits(token: str, sent: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(csrf_token(token).encode(), sent.encode())


def token_hash(token: str) -> bytes:
    """What is stored of a token."""
    return _hash(token)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
