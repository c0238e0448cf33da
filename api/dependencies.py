"""What may a route ask for? The services of the app, and a caller with the scope it needs.

    @router.get("/v1/things/{thing_id}")
    async def get_thing(thing_id: str, caller: Reader, services: Using) -> Response:
        row = await services.database.run(things.load, caller.platform.id, thing_id)

`services.database.run` is one transaction that has committed when it returns.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api import auth
from api.auth import Admission
from api.services import Services
from screening.api_keys import Scope

# For OpenAPI; `auth.bearer` reads the header itself, because a wrong scheme is a 401 here.
_BEARER = HTTPBearer(auto_error=False, scheme_name="apiKey", description="An API key of the platform.")


def services(request: Request) -> Services:
    """The app's services."""
    found: Services = request.app.state.services
    return found


Using = Annotated[Services, Depends(services)]


def allowed(scope: Scope) -> Callable[..., Awaitable[Admission]]:
    """A dependency that lets in callers with this scope: 401, 403 or 429 otherwise."""

    async def admitted(
        request: Request,
        using: Using,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Admission:
        return await auth.admit(request, using, scope)

    return admitted


Reader = Annotated[Admission, Depends(allowed(Scope.READ))]
Writer = Annotated[Admission, Depends(allowed(Scope.WRITE))]
Reviewer = Annotated[Admission, Depends(allowed(Scope.REVIEW))]
Admin = Annotated[Admission, Depends(allowed(Scope.ADMIN))]
