"""Where does a platform listen? Endpoints, their secrets, and their being switched on and off."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from screening import webhook_secrets
from screening.errors import AssayError
from screening.tables import Endpoint, Platform, assay_now
from screening.webhook_secrets import SecretBox


class TooManyEndpointsError(AssayError):
    """The platform has as many endpoints as it may; delete one first."""


def create(
    session: Session,
    box: SecretBox,
    platform_id: UUID,
    url: str,
    *,
    types: Sequence[str] = (),
    description: str | None = None,
    ordered: bool = False,
    most: int = 50,
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret, which is shown this once. No types means every type.

    The caller has checked the URL. Raises TooManyEndpointsError.
    """
    # Two requests at once must not both find room.
    session.execute(select(Platform.id).where(Platform.id == platform_id).with_for_update(key_share=True))
    count = session.scalar(select(func.count()).where(Endpoint.platform_id == platform_id)) or 0
    if count >= most:
        raise TooManyEndpointsError(f"The platform already has {most} endpoints: delete one first.")
    secret = webhook_secrets.generate()
    endpoint = Endpoint(
        platform_id=platform_id,
        url=url,
        types=sorted(set(types)),
        description=description,
        ordered=ordered,
        secret=box.seal(secret),
    )
    session.add(endpoint)
    session.flush()
    session.refresh(endpoint)
    return endpoint, secret


def rotate_secret(session: Session, box: SecretBox, endpoint: Endpoint, *, overlap: timedelta) -> str:
    """A new secret; both sign until the overlap has passed, so that the receiver can change in its own time."""
    secret = webhook_secrets.generate()
    endpoint.previous_secret = endpoint.secret
    endpoint.previous_secret_until = session.scalar(select(assay_now() + overlap))
    endpoint.secret = box.seal(secret)
    session.flush()
    return secret


def enable(session: Session, endpoint: Endpoint) -> None:
    """Start, or start again: what made it stop is forgotten, and what waited for it is sent."""
    endpoint.enabled = True
    endpoint.disabled_reason = endpoint.disabled_at = endpoint.failing_since = endpoint.throttled_until = None
    session.flush()


def disable(session: Session, endpoint: Endpoint) -> None:
    """Stop, as the platform asked: nothing is sent and no new events are kept for it."""
    if endpoint.enabled:
        endpoint.enabled = False
        endpoint.disabled_reason = "platform"
        endpoint.disabled_at = session.scalar(select(assay_now()))
        session.flush()


def of_platform(session: Session, platform_id: UUID) -> list[Endpoint]:
    """All endpoints of a platform, the oldest first."""
    statement = select(Endpoint).where(Endpoint.platform_id == platform_id).order_by(Endpoint.created_at, Endpoint.id)
    return list(session.scalars(statement))


def find(session: Session, platform_id: UUID, endpoint_id: UUID) -> Endpoint | None:
    """The platform's endpoint of this id, or None: also where it is another platform's."""
    return session.scalars(
        select(Endpoint).where(Endpoint.id == endpoint_id, Endpoint.platform_id == platform_id)
    ).first()
