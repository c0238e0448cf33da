"""What would the watching policy have done otherwise? Told from what it ruled beside the acting one."""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from screening import policies
from screening.tables import Finding, ShadowRuling

NEWEST = 1_000


def report(session: Session, platform_id: UUID) -> dict[str, Any] | None:
    """Agreement and flips over the newest findings; None where nothing watches."""
    version = policies.standing(session, platform_id).shadow_version
    if version is None:
        return None
    newest = (
        select(ShadowRuling)
        .where(ShadowRuling.platform_id == platform_id, ShadowRuling.version == version)
        .order_by(ShadowRuling.created_at.desc())
        .limit(NEWEST)
        .subquery()
    )
    counts = session.execute(
        select(Finding.outcome, newest.c.outcome, func.count())
        .join(newest, newest.c.screening_id == Finding.screening_id)
        .group_by(Finding.outcome, newest.c.outcome)
        .order_by(func.count().desc())
    ).all()
    flips = [{"was": was, "becomes": becomes, "count": n} for was, becomes, n in counts if was != becomes]
    agree = sum(n for was, becomes, n in counts if was == becomes)
    return {"version": version, "judged": sum(n for _, _, n in counts), "agree": agree, "flips": flips}
