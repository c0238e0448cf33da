"""Signing in and out, with forms that work without scripts."""

import secrets
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from api import reviewer_auth
from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.pages.templating import render
from api.problems import LOCKED_OUT, Problem
from api.reviewer_auth import COOKIE, VISITOR_COOKIE
from api.routes import session as session_routes
from api.services import Services
from screening import sign_in

router = frame.router()


@router.get("/signin")
async def form(request: Request, services: Using, next: str = "/") -> Response:
    """The form, or onward for who is signed in already."""
    if await reviewer_auth.browser(request, services) is not None:
        return RedirectResponse(frame.local(next), 303)
    return _form(request, services, next)


def _form(request: Request, services: Services, next: str, *, error: str = "", email: str = "") -> Response:
    visitor = request.cookies.get(VISITOR_COOKIE) or secrets.token_urlsafe(32)
    response = render(
        "signin.html",
        401 if error else 200,
        csrf_token=sign_in.csrf_token(visitor),
        next=frame.local(next),
        error=error,
        email=email,
        oidc=services.settings.oidc_issuer is not None,
    )
    reviewer_auth.set_cookie(response, VISITOR_COOKIE, visitor)
    return response


@router.post("/signin")
async def submit(
    request: Request,
    services: Using,
    email: Annotated[str, Form(max_length=320)],
    password: Annotated[str, Form(max_length=1024)],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Sign in and go where the visitor was going; or the form again, saying only that it did not fit."""
    await reviewer_auth.check_csrf(request, request.cookies.get(VISITOR_COOKIE, ""))
    try:
        token = await session_routes.authenticate(services, email, password)
    except Problem as problem:
        locked = problem.kind is LOCKED_OUT
        wait = dict(problem.headers or {}).get("Retry-After", "30")
        text = f"Too many tries. Wait {wait} seconds." if locked else "Address and password do not fit."
        return _form(request, services, next, error=text, email=email)
    response = RedirectResponse(frame.local(next), 303)
    session_routes.enter(response, token)
    return response


@router.post("/sign-out")
async def sign_out(viewer: Viewing, services: Using) -> Response:
    """End the session and show the form."""
    if viewer.signed_in is not None:
        await services.database.run(sign_in.sign_out, viewer.signed_in.token)
    response = RedirectResponse("/signin", 303)
    reviewer_auth.clear_cookie(response, COOKIE)
    return response
