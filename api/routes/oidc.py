"""Signing in through the operator's identity provider, where one is configured."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api import oidc, reviewer_auth
from api.dependencies import Using
from api.oidc import FAILED, IdentityProvider
from api.problems import Problem, not_found
from api.routes.session import enter
from api.services import Services
from screening import sign_in

router = APIRouter(tags=["session"])

NO_STORE = {"Cache-Control": "no-store"}


@router.get("/signin/oidc", status_code=303, include_in_schema=False)
async def begin(services: Using, next: Annotated[str, Query(max_length=500)] = "/") -> Response:
    """Off to the provider."""
    address, cookie = await _provider(services).send(_local(next))
    response = RedirectResponse(address, 303, NO_STORE)
    reviewer_auth.set_cookie(response, oidc.COOKIE, cookie, max_age=oidc.SECONDS)
    return response


@router.get("/signin/oidc/callback", status_code=303, include_in_schema=False)
async def complete(
    request: Request,
    services: Using,
    code: Annotated[str, Query(max_length=2_000)] = "",
    state: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Back from the provider: a session for a known reviewer."""
    provider = _provider(services)
    identity, next_page = await provider.receive(code, state, request.cookies.get(oidc.COOKIE, ""))
    token = await services.database.run(_admit, identity)
    if token is None:
        raise Problem(FAILED, "Nobody of this identity reviews here. Ask whoever administers the service.")
    response = RedirectResponse(next_page, 303, NO_STORE)
    enter(response, token)
    reviewer_auth.clear_cookie(response, oidc.COOKIE)
    return response


def _provider(services: Services) -> IdentityProvider:
    if services.settings.oidc_issuer is None:
        raise not_found()
    return services.identity_provider


def _local(page: str) -> str:
    """A path of ours; anything else would make us a springboard to other sites."""
    fine = page.startswith("/") and not page.startswith(("//", "/\\")) and page.isprintable() and "\\" not in page
    return page if fine else "/"


def _admit(session: Session, identity: oidc.Identity) -> str | None:
    reviewer = sign_in.by_identity(
        session, issuer=identity.issuer, subject=identity.subject, email=identity.email
    )  # fmt: skip
    return None if reviewer is None else sign_in.admit(session, reviewer.id)
