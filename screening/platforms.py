"""How does a platform come to be?"""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from screening.tables import Platform, Turn


def create(session: Session, name: str, *, weight: int = 1) -> Platform:
    """A new platform with its turn; the name is unique."""
    platform = Platform(name=name, weight=weight)
    session.add(platform)
    session.flush()
    session.add(Turn(platform_id=platform.id))
    session.flush()
    return platform


def by_name(session: Session, name: str) -> Platform | None:
    """The platform of this name, or None."""
    return session.scalars(select(Platform).where(Platform.name == name)).first()


def find(session: Session, platform_id: UUID) -> Platform | None:
    """The platform of this id, or None."""
    return session.get(Platform, platform_id)


def buckets(session: Session, platform_id: UUID) -> list[str]:
    """The buckets that the operator has opened to a platform."""
    return session.scalar(select(Platform.buckets).where(Platform.id == platform_id)) or []
