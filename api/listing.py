"""Which screenings match, newest first? A keyset page on `(created_at, id)`, through whichever index serves the filter.

Filters by verdict walk the findings' indexes, which carry the screening's own time, so that a rare label is found
without reading every row before it. A range of scores is walked band by band (see `score_band`), each band in the order
of the page, and their first rows are merged. There are no totals: counting a million rows costs more than the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Subquery, func, literal, or_, select, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from api.schemas.screening_list import ScreeningFilter
from api.screenings import WHOLE
from screening.tables import Finding, Image, Screening, State, score_band

Position = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where the next page begins; None on the last."""

    rows: Sequence[Screening]
    next: Position | None


def page(session: Session, platform_id: UUID, wanted: ScreeningFilter, after: Position | None) -> Page:
    """Up to `wanted.limit` rows after a position. One row more is asked for, to know whether there is a next page."""
    if _contradictory(wanted):
        return Page([], None)
    found = _of_each_band(platform_id, wanted, after) if _by_score_alone(wanted) else _ids(platform_id, wanted, after)
    statement = select(Screening).join(found, found.c.id == Screening.id)
    rows = session.scalars(statement.order_by(found.c.at.desc(), found.c.id.desc()).options(*WHOLE)).all()
    if len(rows) <= wanted.limit:
        return Page(rows, None)
    last = rows[wanted.limit - 1]
    return Page(rows[: wanted.limit], (last.created_at, last.id))


def _contradictory(wanted: ScreeningFilter) -> bool:
    """Whether nothing can match, which reading every finding would tell as well: only what succeeded has a verdict."""
    verdict = (wanted.label, wanted.outcome, wanted.min_score, wanted.max_score)
    judged = any(value is not None for value in verdict)
    lowest, highest = wanted.min_score or 0.0, 1.0 if wanted.max_score is None else wanted.max_score
    return lowest > highest or (judged and wanted.state not in (None, State.SUCCEEDED))


def _ids(platform_id: UUID, wanted: ScreeningFilter, after: Position | None) -> Subquery:
    return _in_page_order(_matching(platform_id, wanted, _in_range(wanted)), wanted, after).subquery("found")


def _of_each_band(platform_id: UUID, wanted: ScreeningFilter, after: Position | None) -> Subquery:
    """The first rows of each band that the range of scores touches, and of those together the first."""
    lowest = score_band(literal(0.0 if wanted.min_score is None else wanted.min_score))
    highest = score_band(literal(1.0 if wanted.max_score is None else wanted.max_score))
    bands = func.generate_series(lowest, highest).table_valued("band").render_derived("bands")
    # Said of the outermost bands alone: the planner then expects enough of a band to match to walk it in order.
    in_range = [or_(bands.c.band.not_in([lowest, highest]), score) for score in _in_range(wanted)]
    of_one = _matching(platform_id, wanted, [score_band(Finding.score) == bands.c.band, *in_range])
    first = _in_page_order(of_one, wanted, after).lateral("first")
    merged = select(first.c.id, first.c.at).select_from(bands.join(first, true()))
    return merged.order_by(first.c.at.desc(), first.c.id.desc()).limit(wanted.limit + 1).subquery("found")


def _in_page_order(statement: Select[Any], wanted: ScreeningFilter, after: Position | None) -> Select[Any]:
    created_at, id = _order(wanted)
    if after is not None:
        statement = statement.where(tuple_(created_at, id) < after)
    return statement.order_by(created_at.desc(), id.desc()).limit(wanted.limit + 1)


def _by_score_alone(wanted: ScreeningFilter) -> bool:
    """Whether no other filter names few rows: those are better walked by their own index."""
    scored = wanted.min_score is not None or wanted.max_score is not None
    rare = (wanted.label, wanted.outcome, wanted.client_ref, wanted.sha256)
    return scored and all(value is None for value in rare)


def _by_verdict(wanted: ScreeningFilter) -> bool:
    return wanted.label is not None or wanted.outcome is not None or _by_score_alone(wanted)


def _order(wanted: ScreeningFilter) -> tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]:
    if _by_verdict(wanted):
        return Finding.accepted_at, Finding.screening_id
    return Screening.created_at, Screening.id


def _matching(platform_id: UUID, wanted: ScreeningFilter, in_range: list[ColumnElement[bool]]) -> Select[Any]:
    created_at, id = _order(wanted)
    statement = select(id.label("id"), created_at.label("at")).select_from(Screening)
    statement = statement.where(Screening.platform_id == platform_id, Screening.erased_at.is_(None))
    if found := [*_of_verdict(wanted), *in_range]:
        statement = statement.join(Finding, Finding.screening_id == Screening.id)
        statement = statement.where(Finding.platform_id == platform_id, *found)
    if wanted.sha256 is not None:
        statement = statement.join(Image, Image.screening_id == Screening.id).where(
            Image.platform_id == platform_id, Image.sha256 == bytes.fromhex(wanted.sha256)
        )
    return statement.where(*_of_screening(wanted))


def _of_verdict(wanted: ScreeningFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.label is not None:
        conditions.append(Finding.label == wanted.label)
    if wanted.outcome is not None:
        conditions.append(Finding.outcome == wanted.outcome)
    return conditions


def _in_range(wanted: ScreeningFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.min_score is not None:
        conditions.append(Finding.score >= wanted.min_score)
    if wanted.max_score is not None:
        conditions.append(Finding.score <= wanted.max_score)
    return conditions


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
