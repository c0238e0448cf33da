"""Who is looking at a page, and what do they see when something is wrong? A frame that every page shares."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from api import reviewer_auth
from api.dependencies import Using
from api.pages.templating import navigation, render
from api.problems import NOT_FOUND, Problem
from api.reviewer_auth import Viewer
from screening.actors import NotGrantedError, Role, RoleTooSmallError
from screening.ids import Prefix, encode

_MOTION = {True: "reduce", False: "full"}


class SignInNeededError(Exception):
    """Nobody is signed in; the browser is sent to the sign-in page and back."""


class PageRoute(APIRoute):
    """A route that answers with pages, also when it answers with an error."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, with errors turned into pages."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except SignInNeededError:
                return RedirectResponse(f"/signin?next={quote(_here(request), safe='')}", 303)
            except Problem as problem:
                return error_page(problem.kind.status, problem.kind.title, str(problem.detail))
            except RequestValidationError as error:
                what = ", ".join(str(wrong["loc"][-1]) for wrong in error.errors())
                return error_page(
                    422, "Not like this", f"This address or form has something that does not fit: {what}."
                )
            except RoleTooSmallError as error:
                return error_page(403, "Not with your role", str(error))
            except NotGrantedError:
                return error_page(NOT_FOUND.status, NOT_FOUND.title, "There is nothing here under this address.")

        return handled


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def router() -> APIRouter:
    """A router for pages: outside OpenAPI, errors as pages."""
    return APIRouter(include_in_schema=False, route_class=PageRoute)


def error_page(status: int, title: str, detail: str) -> HTMLResponse:
    """What a person reads instead of a problem document."""
    return render("error.html", status, title=title, detail=detail, code=status)


async def page_viewer(request: Request, services: Using) -> Viewer:
    """The signed-in reviewer of a page. Raises SignInNeededError, and Problem 403 for a form without its token."""
    viewer = await reviewer_auth.browser(request, services)
    if viewer is None:
        raise SignInNeededError
    await reviewer_auth.check_csrf(request, request.cookies[reviewer_auth.COOKIE])
    return viewer


Viewing = Annotated[Viewer, Depends(page_viewer)]


def page(request: Request, viewer: Viewer, template: str, **context: Any) -> HTMLResponse:
    """Render a page in the frame: the rail, who is signed in, the token its forms carry."""
    roles = frozenset(grant.role.value for grant in viewer.actor.grants.values())
    return render(
        template,
        reviewer=viewer.reviewer,
        csrf_token=viewer.csrf_token,
        theme=viewer.settings.theme,
        motion="system" if viewer.settings.reduced_motion is None else _MOTION[viewer.settings.reduced_motion],
        navigation=navigation(request.url.path, roles),
        may_lead=bool(viewer.actor.platforms(Role.LEAD)),
        may_administer=bool(viewer.actor.platforms(Role.ADMIN)),
        **context,
    )


def platforms(viewer: Viewer, role: Role = Role.REVIEWER) -> dict[str, str]:
    """Names by public id of the platforms on which the viewer has at least this role, by name."""
    named = sorted(viewer.actor.platforms(role), key=lambda id: (viewer.platforms[id].casefold(), id))
    return {encode(Prefix.PLATFORM, id): viewer.platforms[id] for id in named}


def first(names: dict[str, str]) -> str:
    """The platform that a page shows unless another is named. Raises NotGrantedError where there is none."""
    if not names:
        raise NotGrantedError("There is nothing here for you.")
    return next(iter(names))


def local(target: str | None) -> str:
    r"""Where to go after signing in: a path of ours, never another host (`//host`, `/\host`)."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or "\n" in target:
        return "/"
    return target
