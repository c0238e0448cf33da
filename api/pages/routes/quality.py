"""The quality page: how good policy and people are, each number with what it stands on."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response

from api.dependencies import Using
from api.pages import frame, plots
from api.pages.frame import Viewing
from api.reviewer_auth import one_platform
from screening import quality
from screening.actors import Role

router = frame.router()

WINDOWS = (7, 30, 90, 365)
FEW = 30  # below this an interval is so wide that the number alone misleads


@dataclass(frozen=True, slots=True)
class Shown:
    """One figure as the page says it."""

    name: str
    what: str  # what is counted, in a few words
    unit: str  # share | alpha | seconds | hours
    empty: str  # why there may be nothing, and what to do about it


MACHINE = {
    "auto_block_correct": Shown(
        "Right blocks", "of what was blocked without a person and checked afterwards", "share",
        "No block has been checked yet. “check_blocks” in the policy sends a share of them to people.",
    ),
    "auto_allow_correct": Shown(
        "Right allows", "of what was allowed without a person and sampled afterwards", "share",
        "No allow has been sampled yet. “sample” in the policy sends a share of them to people.",
    ),
}  # fmt: skip
PEOPLE = {
    "agreement_share": Shown(
        "Same verdict", "of items decided twice, blind, got the same verdict from both", "share",
        "Nothing has been decided twice yet. “second_review” in the policy asks a second person.",
    ),
    "agreement_alpha": Shown(
        "Agreement", "Krippendorff’s α of the same items: 1 is perfect, 0 is chance, also where nearly all are alike",
        "alpha",
        "Nothing has been decided twice yet. “second_review” in the policy asks a second person.",
    ),
    "golden_accuracy": Shown(
        "Known items", "of items with a known truth were decided as it says", "share",
        "No known item has been asked about yet. Leads mark screenings as golden to mix them in.",
    ),
    "overturn_rate": Shown(
        "Overturned", "of decisions were reversed by a lead later", "share", "Nothing has been decided yet.",
    ),
}  # fmt: skip
PACE = {
    "seconds_to_decision": Shown(
        "Time to decide", "median, from seeing an image to deciding it", "seconds", "Nothing has been decided yet.",
    ),
    "hours_to_decision": Shown(
        "Time to outcome", "median, from arrival in a queue to the final decision", "hours",
        "Nothing has been decided yet.",
    ),
    "exposure_seconds_per_decision": Shown(
        "Exposure", "mean seconds that an image was on screen unveiled, per decision", "seconds",
        "Nothing has been decided yet.",
    ),
}  # fmt: skip


@router.get("/quality")
async def show(
    request: Request,
    viewer: Viewing,
    services: Using,
    platform: str | None = None,
    days: Annotated[int, Query(ge=1, le=365)] = 30,
) -> Response:
    """The figures of one platform that the viewer leads."""
    names = frame.platforms(viewer, Role.LEAD)
    chosen = platform or frame.first(names)
    found = await services.database.run(quality.quality, one_platform(viewer, chosen, Role.LEAD), days=days)
    return frame.page(
        request,
        viewer,
        "quality.html",
        names=names,
        chosen=chosen,
        days=days,
        windows=WINDOWS,
        few=FEW,
        found=found,
        groups=[
            ("What the machine does alone", _figures(MACHINE, found)),
            ("What people do", _figures(PEOPLE, found)),
            ("Pace and strain", _figures(PACE, found)),
        ],
        queues=[{**row, "span": plots.span(row["precision"])} for row in found["queue_precision"]],
        calibration=plots.calibration(found["calibration"]),
        scores=plots.histogram(found["scores"]),
    )


def _figures(shown: dict[str, Shown], found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"shown": figure, "estimate": found[name], "span": plots.span(found[name], _most(figure, found[name]))}
        for name, figure in shown.items()
    ]


def _most(figure: Shown, estimate: dict[str, Any]) -> float:
    """The end of a figure's track: 1 for shares and alpha, a little beyond the interval for times."""
    if figure.unit in ("share", "alpha"):
        return 1.0
    return 1.15 * max(estimate["high"] or 0, estimate["value"] or 0) or 1.0
