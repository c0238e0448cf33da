"""The review page: a shell; what it shows comes from `GET /v1/reviews/{id}`, which alone holds it all."""

from fastapi import Request
from fastapi.responses import Response

from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.problems import not_found
from api.services import Services
from screening import reviews
from screening.actors import Role
from screening.ids import Prefix, decode, encode

router = frame.router()

KEY_HELP = (
    ("fake", "Fake"),
    ("authentic", "Authentic"),
    ("confirm", "Decide without a reason"),
    ("mask_wrong", "Mask wrong, verdict right"),
    ("undo", "Undo the last decision"),
    ("escalate", "Escalate to a lead"),
    ("skip", "Skip"),
    ("reveal", "Hold: reveal the image"),
    ("hide_mask", "Hold: hide the mask"),
    ("contour", "Mask as contour"),
    ("fill", "Mask as fill"),
    ("heat", "Heat map"),
    ("opacity_down", "Less opaque"),
    ("opacity_up", "More opaque"),
    ("next_region", "Next region"),
    ("previous_region", "Previous region"),
    ("loupe", "Loupe at native pixels"),
    ("brush", "Brush: add to the mask"),
    ("eraser", "Eraser: take from the mask"),
    ("help", "These keys"),
)


@router.get("/review")
async def next_item(
    request: Request, viewer: Viewing, queue: str | None = None, platform: str | None = None
) -> Response:
    """Whatever is next by risk and due time, of one queue if it is named."""
    return _desk(request, viewer, None, queue, platform)


@router.get("/reviews/{review_id}")
async def one_item(
    request: Request,
    viewer: Viewing,
    services: Using,
    review_id: str,
    queue: str | None = None,
    platform: str | None = None,
) -> Response:
    """This very item, and then on with the queue that it was opened from.

    404 where it is of a platform without a grant, although the shell would say nothing of it.
    """
    await _check(viewer, services, review_id, Role.REVIEWER)
    return _desk(request, viewer, review_id, queue, platform)


@router.get("/reviews/{review_id}/cluster")
async def look_alikes(request: Request, viewer: Viewing, services: Using, review_id: str) -> Response:
    """The waiting look-alikes of one image, to be decided together; a lead's page."""
    await _check(viewer, services, review_id, Role.LEAD)
    return frame.page(request, viewer, "cluster.html", review_id=review_id)


async def _check(viewer: Viewing, services: Services, review_id: str, role: Role) -> None:
    id = decode(Prefix.REVIEW, review_id)
    if id is None:
        raise not_found()
    await services.database.run(reviews.visible, viewer.actor, id, role)


def _desk(
    request: Request, viewer: Viewing, review_id: str | None, queue: str | None, platform: str | None
) -> Response:
    boot = {
        "review": review_id,
        "queue": queue,
        "platform": platform,
        "leads": [encode(Prefix.PLATFORM, id) for id in viewer.actor.platforms(Role.LEAD)],
        "settings": viewer.settings.model_dump(mode="json"),
    }
    return frame.page(request, viewer, "review.html", boot=boot, key_help=KEY_HELP)
