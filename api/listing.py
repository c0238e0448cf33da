"""Which screenings match, newest first? A keyset page on `(created_at, id)`, through whichever index serves the filter.

Filters by verdict walk the findings' indexes, which carry the screening's own time, so that a rare label is found
without reading every row before it. There are no totals: counting a million rows costs more than the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.schemas.screening_list import ScreeningFilter
from api.screenings import WHOLE
from screening.tables import Finding, Image, Screening

Position = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where the next page begins; None on the last."""

    rows: Sequence[Screening]
    next: Position | None


def page(session: Session, platform_id: UUID, wanted: ScreeningFilter, after: Position | None) -> Page:
    """Up to `wanted.limit` rows after a position. One row more is asked for, to know whether there is a next page."""
    statement = _matching(platform_id, wanted)
    created_at, id = _order(wanted)
    if after is not None:
        statement = statement.where(tuple_(created_at, id) < after)
    statement = statement.order_by(created_at.desc(), id.desc()).limit(wanted.limit + 1).options(*WHOLE)
    rows = session.scalars(statement).all()
    if len(rows) <= wanted.limit:
        return Page(rows, None)
    last = rows[wanted.limit - 1]
    return Page(rows[: wanted.limit], (last.created_at, last.id))


def _by_verdict(wanted: ScreeningFilter) -> bool:
    return wanted.label is not None or wanted.outcome is not None


def _order(wanted: ScreeningFilter) -> tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]:
    if _by_verdict(wanted):
        return Finding.accepted_at, Finding.screening_id
    return Screening.created_at, Screening.id


def _matching(platform_id: UUID, wanted: ScreeningFilter) -> Select[Screening]:
    statement = select(Screening).where(Screening.platform_id == platform_id, Screening.erased_at.is_(None))
    found = _of_finding(platform_id, wanted)
    if found:
        statement = statement.join(Finding, Finding.screening_id == Screening.id).where(*found)
    if wanted.sha256 is not None:
        statement = statement.join(Image, Image.screening_id == Screening.id).where(
            Image.platform_id == platform_id, Image.sha256 == bytes.fromhex(wanted.sha256)
        )
    return statement.where(*_of_screening(wanted))


def _of_finding(platform_id: UUID, wanted: ScreeningFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.label is not None:
        conditions.append(Finding.label == wanted.label)
    if wanted.outcome is not None:
        conditions.append(Finding.outcome == wanted.outcome)
    if wanted.min_score is not None:
        conditions.append(Finding.score >= wanted.min_score)
    if wanted.max_score is not None:
        conditions.append(Finding.score <= wanted.max_score)
    return [Finding.platform_id == platform_id, *conditions] if conditions else []


def _of_screening(wanted: ScreeningFilter) -> list[ColumnElement[bool]]:
    created_at = _order(wanted)[0]
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        conditions.append(Screening.state == wanted.state)
    if wanted.client_ref is not None:
        conditions.append(Screening.client_ref == wanted.client_ref)
    if wanted.created_after is not None:
        conditions.append(created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(created_at < wanted.created_before)
    return conditions
