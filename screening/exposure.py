"""For how long has somebody had an image unveiled before them? Counted, because what it does to people is not known."""

from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from screening import reviews
from screening.actors import Actor
from screening.tables import Exposure


def add(session: Session, actor: Actor, review_id: UUID, seconds: float) -> None:
    """Add seconds to the actor's count on one review. Raises NotGrantedError."""
    reviews.visible(session, actor, review_id)
    statement = insert(Exposure).values(review_id=review_id, actor_id=actor.id, seconds=seconds)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["review_id", "actor_id"], set_={"seconds": Exposure.seconds + statement.excluded.seconds}
        )
    )
