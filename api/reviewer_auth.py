"""Who is acting on reviews and policies? A signed-in reviewer, or a key with the scope `review` or `admin`.

    @router.post("/v1/reviews/{review_id}/release")
    async def release(review_id: str, viewer: Acting, services: Using) -> Response: ...

A cookie is sent by the browser whoever asks it to, so everything but GET and HEAD must also carry the CSRF token, which
only our own pages can read. A key is sent by whoever holds it and needs none.
"""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from api import auth
from api.dependencies import Using
from api.problems import CSRF, FORBIDDEN, PLATFORM_REQUIRED, SIGNED_OUT, Problem, not_found
from api.services import Services
from screening import sign_in
from screening.actors import Actor, Grant, Role
from screening.api_keys import Scope
from screening.ids import Prefix, decode, encode
from screening.reviewer_settings import ReviewerSettings
from screening.sign_in import SignedIn
from screening.tables import Reviewer

COOKIE = "assay_session"
VISITOR_COOKIE = "assay_visitor"  # before signing in: what the CSRF token of the sign-in form is derived from
HEADER = "x-csrf-token"
FIELD = "csrf_token"
LONGEST_TOKEN = 200
SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who may act: the actor, and for a browser the reviewer behind it."""

    actor: Actor
    platforms: dict[UUID, str]  # names by id, of the granted ones
    signed_in: SignedIn | None = None

    @property
    def reviewer(self) -> Reviewer | None:
        """The reviewer; None for a key."""
        return None if self.signed_in is None else self.signed_in.reviewer

    @property
    def csrf_token(self) -> str | None:
        """What this viewer's pages send along; None for a key."""
        return None if self.signed_in is None else sign_in.csrf_token(self.signed_in.token)

    @property
    def settings(self) -> ReviewerSettings:
        """The reviewer's settings; a key has the defaults."""
        return settings_of(self.reviewer)


def settings_of(reviewer: Reviewer | None) -> ReviewerSettings:
    """What a reviewer has set, over the defaults."""
    return ReviewerSettings.model_validate({} if reviewer is None else reviewer.settings)


async def acting(request: Request, services: Using) -> Viewer:
    """The viewer of a request. Raises Problem 401, 403 or 429."""
    if "authorization" in request.headers:
        return await _key(request, services)
    viewer = await browser(request, services)
    if viewer is None:
        raise Problem(SIGNED_OUT, "Sign in, or send a key with the scope `review`.")
    await check_csrf(request, request.cookies[COOKIE])
    return viewer


Acting = Annotated[Viewer, Depends(acting)]


async def _key(request: Request, services: Services) -> Viewer:
    admission = await auth.admit(request, services, None)
    scopes = admission.caller.scopes
    if not scopes & {Scope.REVIEW, Scope.ADMIN}:
        raise Problem(FORBIDDEN, "The key lacks the scopes `review` and `admin`.")
    role = Role.ADMIN if Scope.ADMIN in scopes else Role.REVIEWER
    grant = Grant(role, encode(Prefix.API_KEY, admission.caller.key_id))
    platform = admission.platform
    return Viewer(Actor(admission.caller.key_id, {platform.id: grant}), {platform.id: platform.name})


async def browser(request: Request, services: Services) -> Viewer | None:
    """The reviewer whose session cookie came along, or None."""
    token = request.cookies.get(COOKIE, "")
    if not 0 < len(token) <= LONGEST_TOKEN:
        return None
    found = await services.database.run(sign_in.signed_in, token)
    if found is None:
        return None
    names = {granted.platform.id: granted.platform.name for granted in found.grants}
    actor = Actor(found.reviewer.id, {g.platform.id: Grant(g.role, g.alias) for g in found.grants})
    return Viewer(actor, names, found)


async def check_csrf(request: Request, token: str) -> None:
    """Raise Problem 403 unless the request proves, by header or form field, that it comes from one of our pages."""
    if request.method in SAFE:
        return
    sent = request.headers.get(HEADER) or await _field(request)
    if not sent or not sign_in.csrf_fits(token, sent):
        raise Problem(CSRF, "Send the CSRF token of `GET /v1/session` in the header X-CSRF-Token.")


async def _field(request: Request) -> str:
    kind = request.headers.get("content-type", "")
    if not kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        return ""
    value: Any = (await request.form()).get(FIELD)
    return value if isinstance(value, str) else ""


def set_cookie(response: Response, name: str, value: str, *, max_age: int | None = None) -> None:
    """A cookie that scripts cannot read, other sites cannot send along, and no plain connection carries."""
    response.set_cookie(name, value, max_age=max_age, path="/", secure=True, httponly=True, samesite="lax")


def clear_cookie(response: Response, name: str) -> None:
    """Take a cookie back."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def one_platform(viewer: Viewer, platform: str | None, role: Role = Role.REVIEWER) -> UUID:
    """The platform a request is about: the one it names, else the only granted one. Raises as `Actor.grant` does."""
    if platform is None:
        if len(viewer.platforms) != 1:
            raise Problem(PLATFORM_REQUIRED, "Name one of your platforms: `?platform=plt_...`.")
        platform_id = next(iter(viewer.platforms))
    else:
        platform_id = _decoded(platform)
    viewer.actor.grant(platform_id, role)
    return platform_id


def some_platforms(viewer: Viewer, platform: str | None) -> list[UUID]:
    """The named platform, or every granted one."""
    return list(viewer.platforms) if platform is None else [one_platform(viewer, platform)]


def _decoded(platform: str) -> UUID:
    platform_id = decode(Prefix.PLATFORM, platform)
    if platform_id is None:
        raise not_found()
    return platform_id


PlatformQuery = Annotated[str | None, Query(description="The platform meant, where you have several: `plt_...`")]
