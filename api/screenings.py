"""Which screening does a caller mean? One of its own platform, or none at all."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.sql.base import ExecutableOption

from api import problems
from screening.ids import Prefix, decode
from screening.tables import Screening

WHOLE: tuple[ExecutableOption, ...] = (
    selectinload(Screening.submission),
    selectinload(Screening.image),
    selectinload(Screening.finding),
)
"""What the screening object needs loaded."""


def load(session: Session, platform_id: UUID, public_id: str) -> Screening:
    """The screening of this id. Raises Problem 404 for malformed, unknown and foreign ids alike, 410 once erased."""
    row = load_erased(session, platform_id, public_id)
    if row.erased_at is not None:
        raise problems.Problem(problems.ERASED, "The platform erased this screening; only an audit stub is kept.")
    return row


def load_erased(session: Session, platform_id: UUID, public_id: str) -> Screening:
    """As `load`, but an erased screening is no error."""
    id = decode(Prefix.SCREENING, public_id)
    if id is None:
        raise problems.not_found()
    statement = select(Screening).where(Screening.id == id, Screening.platform_id == platform_id).options(*WHOLE)
    row = session.scalars(statement).first()
    if row is None:
        raise problems.not_found()
    return row
