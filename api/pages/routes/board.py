"""The board: what waits, how long, what is due next, and what is mine."""

from fastapi import Request
from fastapi.responses import Response

from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from screening import board

router = frame.router()

SHOWN = 12


@router.get("/")
async def show(request: Request, viewer: Viewing, services: Using) -> Response:
    """Every queue that the viewer may work on, and the newest items."""
    state = await services.database.run(board.board, viewer.actor)
    wanted = board.Wanted(platform_ids=list(viewer.platforms), state="pending", limit=SHOWN)
    newest = await services.database.run(board.listing, viewer.actor, wanted)
    mine = board.Wanted(platform_ids=list(viewer.platforms), mine=True, limit=SHOWN)
    held = await services.database.run(board.listing, viewer.actor, mine)
    return frame.page(
        request, viewer, "board.html", board=state, newest=newest, held=[r for r in held if r["state"] != "decided"]
    )


@router.get("/board/figures")
async def figures(request: Request, viewer: Viewing, services: Using) -> Response:
    """The figures alone, which the board fetches anew every few seconds."""
    return frame.page(
        request, viewer, "board_figures.html", board=await services.database.run(board.board, viewer.actor)
    )
