"""Legal hold: while it lasts, nothing erases the screening."""

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api import screenings
from api.auth import Admission
from api.dependencies import Admin, Using
from screening import audit, jobs

router = APIRouter(tags=["screenings"])


@router.put("/v1/screenings/{screening_id}/legal-hold", status_code=204)
async def hold_screening(screening_id: str, caller: Admin, services: Using) -> Response:
    """Keep the screening from being erased, by the platform or by retention."""
    await services.database.run(_hold, caller, screening_id, held=True)
    return Response(status_code=204)


@router.delete("/v1/screenings/{screening_id}/legal-hold", status_code=204)
async def release_screening(screening_id: str, caller: Admin, services: Using) -> Response:
    """Lift the hold."""
    await services.database.run(_hold, caller, screening_id, held=False)
    return Response(status_code=204)


def _hold(session: Session, caller: Admission, id: str, *, held: bool) -> None:
    row = screenings.load(session, caller.platform.id, id)
    if row.legal_hold != held:
        jobs.hold(session, row.id, held=held)
        action = "screening.held" if held else "screening.hold_lifted"
        audit.append(session, actor=caller.actor, action=action, subject=id, platform_id=row.platform_id)
