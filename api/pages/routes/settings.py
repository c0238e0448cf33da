"""A reviewer's own settings: keys, veils, how a mask is drawn, the password."""

from fastapi import Request
from fastapi.responses import Response

from api.pages import frame
from api.pages.frame import Viewing
from api.pages.routes.review import KEY_HELP

router = frame.router()


@router.get("/settings")
async def show(request: Request, viewer: Viewing) -> Response:
    """The form; its script saves through `PATCH /v1/session/settings`."""
    return frame.page(
        request, viewer, "settings.html", settings=viewer.settings.model_dump(mode="json"), key_help=KEY_HELP
    )
