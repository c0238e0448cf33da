"""What is the API? An ASGI app made from settings: `create_app()` reads them from the environment."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import Scope

from api import openapi, problems
from api.body import BodyLimits
from api.health import Readiness
from api.pages.routes import ROUTERS as PAGES
from api.request_log import RequestLog
from api.routes import ROUTERS
from api.services import Services
from screening import logs
from screening.settings import MEBIBYTE, Settings
from screening.settings import settings as environment

MAX_BODY_BYTES = MEBIBYTE  # of anything that is not an upload
MAX_CORRECTION_BYTES = 8 * MEBIBYTE  # a two-coloured PNG of 50 MP with ragged edges stays below
FORM_OVERHEAD = 64 * 1024  # boundaries, part headers and text fields around an image


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app. Nothing connects before its first use. Raises ConfigurationError for settings that cannot work."""
    settings = settings or environment()
    app = FastAPI(
        title="Assay",
        version=version("assay-screening"),
        lifespan=_lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # to an address made of the Host header, which is whatever the client says
    )
    app.state.services = Services.open(settings)
    app.state.readiness = Readiness()
    for router in (*ROUTERS, *PAGES):
        app.include_router(router)
    problems.install(app)
    openapi.install(app)
    # The last one added is the outermost.
    app.add_middleware(BodyLimits, limit=_body_limit(settings), seconds=settings.body_seconds)
    app.add_middleware(RequestLog, https=settings.public_url.startswith("https:"))
    return app


def from_environment() -> FastAPI:
    """The app of a serving process, which also sets up its logging; what `assay api` has uvicorn call."""
    logs.configure(environment())
    return create_app()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    services: Services = app.state.services
    await services.close()


def _body_limit(settings: Settings) -> Callable[[Scope], int]:
    """Uploads may be large, masks that a reviewer drew less so, nothing else."""

    def limit(scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] == "/v1/screenings":
            return settings.max_bytes + FORM_OVERHEAD
        correction = scope["method"] == "PUT" and scope["path"].endswith("/correction")
        return MAX_CORRECTION_BYTES if correction else MAX_BODY_BYTES

    return limit
