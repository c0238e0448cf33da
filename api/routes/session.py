"""Signing in and out, and what a reviewer sets for themselves."""

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, ValidationError
from sqlalchemy.orm import Session

from api import reviewer_auth
from api.dependencies import Using
from api.problems import LOCKED_OUT, SIGNED_OUT, WRONG_CREDENTIALS, Problem, invalid, pointer
from api.reviewer_auth import COOKIE, VISITOR_COOKIE, Acting, Viewer
from api.schemas.fields import Body, Text
from api.services import Services
from screening import reviewers, sign_in
from screening.ids import Prefix, encode
from screening.reviewer_settings import ReviewerSettings
from screening.tables import Reviewer

router = APIRouter(tags=["session"])

Password = Annotated[Text, Field(min_length=1, max_length=1024)]


class Credentials(Body):
    """What the sign-in form sends."""

    email: Annotated[Text, Field(min_length=3, max_length=320)]
    password: Password


class PasswordChange(Body):
    """The present password proves that it is not just an open screen."""

    current: Password
    new: Annotated[Text, Field(min_length=reviewers.SHORTEST_PASSWORD, max_length=reviewers.LONGEST_PASSWORD)]


@router.get("/v1/session")
async def get_session(request: Request, services: Using) -> Response:
    """Who is signed in, and the CSRF token that every change must carry; also for signing in."""
    viewer = await reviewer_auth.browser(request, services)
    if viewer is not None:
        return JSONResponse(document(viewer, services))
    visitor = request.cookies.get(VISITOR_COOKIE) or secrets.token_urlsafe(32)
    body = {"object": "session", "reviewer": None, "csrf_token": sign_in.csrf_token(visitor), "oidc": _oidc(services)}
    response = JSONResponse(body)
    reviewer_auth.set_cookie(response, VISITOR_COOKIE, visitor)
    return response


def document(viewer: Viewer, services: Services) -> dict[str, Any]:
    """The session object of a signed-in reviewer."""
    signed_in = viewer.signed_in
    assert signed_in is not None  # noqa: S101 - a key has no session
    grants = [
        {"platform": {"id": encode(Prefix.PLATFORM, g.platform.id), "name": g.platform.name}, "role": g.role}
        for g in signed_in.grants
    ]
    reviewer = {
        "id": encode(Prefix.REVIEWER, signed_in.reviewer.id),
        "email": signed_in.reviewer.email,
        "name": signed_in.reviewer.name,
        "settings": viewer.settings.model_dump(mode="json"),
        "grants": grants,
    }
    return {"object": "session", "reviewer": reviewer, "csrf_token": viewer.csrf_token, "oidc": _oidc(services)}


def _oidc(services: Services) -> bool:
    return services.settings.oidc_issuer is not None


@router.post("/v1/session")
async def create_session(request: Request, credentials: Credentials, services: Using) -> Response:
    """Sign in with address and password."""
    await reviewer_auth.check_csrf(request, request.cookies.get(VISITOR_COOKIE, ""))
    token = await authenticate(services, credentials.email, credentials.password)
    return await opened(services, token)


async def authenticate(services: Services, email: str, password: str) -> str:
    """The token of a new session. Raises Problem 401 or 429.

    The hash is computed on a thread, outside any transaction: it takes tens of milliseconds by design.
    """
    knock = await services.database.run(sign_in.knock, email)
    if knock.locked_seconds is not None:
        wait = {"Retry-After": str(knock.locked_seconds)}
        raise Problem(LOCKED_OUT, "Wait as long as Retry-After says, then try again.", headers=wait)
    fits = await asyncio.to_thread(reviewers.verify_password, knock.password_hash, password)
    if not fits or knock.reviewer_id is None:
        raise Problem(WRONG_CREDENTIALS, "Try again, or ask whoever administers the service.")
    return await services.database.run(sign_in.admit, knock.reviewer_id)


async def opened(services: Services, token: str) -> Response:
    """The session object of a fresh session, with its cookie."""
    found = await services.database.run(sign_in.signed_in, token)
    if found is None:
        raise Problem(SIGNED_OUT, "The session has ended. Sign in again.")
    viewer = Viewer(
        reviewers.actor_of(found.reviewer, found.grants), {g.platform.id: g.platform.name for g in found.grants}, found
    )  # fmt: skip
    response = JSONResponse(document(viewer, services))
    enter(response, token)
    return response


def enter(response: Response, token: str) -> None:
    """Hand the browser its session."""
    reviewer_auth.set_cookie(response, COOKIE, token, max_age=int(sign_in.LIFE.total_seconds()))
    reviewer_auth.clear_cookie(response, VISITOR_COOKIE)


@router.delete("/v1/session", status_code=204)
async def delete_session(viewer: Acting, services: Using) -> Response:
    """Sign out."""
    response = Response(status_code=204)
    if viewer.signed_in is not None:
        await services.database.run(sign_in.sign_out, viewer.signed_in.token)
        reviewer_auth.clear_cookie(response, COOKIE)
    return response


@router.post("/v1/session/password", status_code=204)
async def change_password(change: PasswordChange, viewer: Acting, services: Using) -> Response:
    """Set a new password; every other session of the reviewer ends."""
    reviewer, signed_in = _person(viewer)
    knock = await services.database.run(sign_in.knock, reviewer.email)
    if knock.locked_seconds is not None:
        raise Problem(LOCKED_OUT, "Wait.", headers={"Retry-After": str(knock.locked_seconds)})
    if not await asyncio.to_thread(reviewers.verify_password, knock.password_hash, change.current):
        raise Problem(WRONG_CREDENTIALS, "The present password is another.")
    hashed = await asyncio.to_thread(reviewers.hash_password, change.new)
    await services.database.run(_set_password, reviewer.id, hashed, sign_in.token_hash(signed_in.token))
    return Response(status_code=204)


def _set_password(session: Session, reviewer_id: Any, hashed: str, keep: bytes) -> None:
    reviewer = session.get_one(Reviewer, reviewer_id)
    sign_in.forgive(session, reviewer.email)
    reviewers.set_password(session, reviewer, hashed, actor=encode(Prefix.REVIEWER, reviewer.id), keep=keep)


@router.patch("/v1/session/settings")
async def change_settings(request: Request, changes: dict[str, Any], viewer: Acting, services: Using) -> Response:
    """Change some settings; what is not named stays."""
    reviewer, _ = _person(viewer)
    merged = viewer.settings.model_dump(mode="json") | changes
    if isinstance(changes.get("keys"), dict):
        merged["keys"] = viewer.settings.model_dump(mode="json")["keys"] | changes["keys"]
    try:
        made = ReviewerSettings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        raise invalid(pointer(("body", *first["loc"])).removeprefix("#"), first["msg"]) from None
    await services.database.run(_set_settings, reviewer.id, made)
    return await get_session(request, services)


def _set_settings(session: Session, reviewer_id: Any, made: ReviewerSettings) -> None:
    session.get_one(Reviewer, reviewer_id).settings = made.model_dump(mode="json")


def _person(viewer: Viewer) -> tuple[Reviewer, sign_in.SignedIn]:
    if viewer.reviewer is None or viewer.signed_in is None:
        raise Problem(SIGNED_OUT, "A key has no settings and no password; sign in.")
    return viewer.reviewer, viewer.signed_in
