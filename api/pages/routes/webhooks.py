"""The webhooks page: endpoints, their secrets, what was sent, and sending it again."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api import webhooks
from api.dependencies import Using
from api.pages import frame
from api.pages.frame import Viewing
from api.problems import Problem, not_found
from api.reviewer_auth import Viewer, one_platform
from api.schemas.webhook import DeliveryFilter
from api.services import Services
from screening import audit, deliveries, endpoints, webhook_document
from screening.actors import Role
from screening.broker import Doorbell
from screening.endpoints import TooManyEndpointsError
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Delivery, Endpoint
from screening.webhook_secrets import SecretBox

router = frame.router()

SHOWN = 50
Url = Annotated[str, Form(min_length=8, max_length=2048)]


def _platform(viewer: Viewer, platform: str | None) -> UUID:
    names = frame.platforms(viewer, Role.ADMIN)
    return one_platform(viewer, platform or frame.first(names), Role.ADMIN)


@router.get("/webhooks")
async def listing(request: Request, viewer: Viewing, services: Using, platform: str | None = None) -> Response:
    """The endpoints of one platform."""
    return await _listing(request, viewer, services, _platform(viewer, platform))


async def _listing(
    request: Request, viewer: Viewer, services: Services, platform_id: UUID, *, error: str = "", made: Any = None
) -> Response:
    rows = await services.database.run(_endpoints, platform_id)
    names = frame.platforms(viewer, Role.ADMIN)
    chosen = encode(Prefix.PLATFORM, platform_id)
    context = {"names": names, "chosen": chosen, "rows": rows, "error": error, "made": made}
    return frame.page(request, viewer, "webhooks.html", **context)


def _endpoints(session: Session, platform_id: UUID) -> list[dict[str, Any]]:
    return [webhook_document.endpoint(row) for row in endpoints.of_platform(session, platform_id)]


@router.post("/webhooks")
async def create(
    request: Request, viewer: Viewing, services: Using, url: Url, platform: Annotated[str, Form()]
) -> Response:
    """A new endpoint; its secret is on this answer and nowhere else."""
    platform_id = _platform(viewer, platform)
    try:
        webhooks.check_url(url, services.settings)
        made = await services.database.run(_create, platform_id, url, services.settings, _alias(viewer, platform_id))
    except Problem as problem:
        detail = problem.errors[0]["detail"] if problem.errors else str(problem.detail)
        return await _listing(request, viewer, services, platform_id, error=detail)
    except TooManyEndpointsError as error:
        return await _listing(request, viewer, services, platform_id, error=str(error))
    return await _listing(request, viewer, services, platform_id, made=made)


def _alias(viewer: Viewer, platform_id: UUID) -> str:
    return viewer.actor.grants[platform_id].alias


def _create(session: Session, platform_id: UUID, url: str, settings: Settings, actor: str) -> dict[str, str]:
    row, secret = endpoints.create(
        session, SecretBox(settings.keys), platform_id, url, most=settings.webhook_endpoints_max
    )  # fmt: skip
    _audit(session, row, "endpoint.created", actor)
    return {"url": row.url, "secret": secret}


def _audit(session: Session, row: Endpoint, action: str, actor: str) -> None:
    subject = encode(Prefix.ENDPOINT, row.id)
    audit.append(session, actor=actor, action=action, subject=subject, platform_id=row.platform_id)


def _find(session: Session, viewer: Viewer, endpoint_id: str) -> Endpoint:
    """The endpoint on one of the platforms that the viewer administers. Raises Problem 404."""
    for platform_id in viewer.actor.platforms(Role.ADMIN):
        try:
            return webhooks.load_endpoint(session, platform_id, endpoint_id)
        except Problem:
            continue
    raise not_found()


@router.get("/webhooks/{endpoint_id}")
async def one(request: Request, viewer: Viewing, services: Using, endpoint_id: str) -> Response:
    """One endpoint with what was sent to it lately."""
    return await _one(request, viewer, services, endpoint_id)


async def _one(request: Request, viewer: Viewer, services: Services, endpoint_id: str, secret: str = "") -> Response:
    row, sent = await services.database.run(_detail, viewer, endpoint_id)
    return frame.page(request, viewer, "webhook.html", row=row, sent=sent, secret=secret)


def _detail(session: Session, viewer: Viewer, endpoint_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    row = _find(session, viewer, endpoint_id)
    wanted = DeliveryFilter(limit=SHOWN)
    sent, _ = webhooks.delivery_page(session, row.platform_id, endpoint_id, wanted, None)
    return webhook_document.endpoint(row), sent


@router.post("/webhooks/{endpoint_id}/{action}")
async def act(request: Request, viewer: Viewing, services: Using, endpoint_id: str, action: str) -> Response:
    """Test, rotate, enable, disable or delete."""
    if action not in ("test", "rotate", "enable", "disable", "delete"):
        raise not_found()
    secret = await services.database.run(_act, viewer, endpoint_id, action, services.settings)
    services.doorbell.ring(Doorbell.ring_deliveries)
    if action == "rotate":
        return await _one(request, viewer, services, endpoint_id, secret)
    return RedirectResponse("/webhooks" if action == "delete" else f"/webhooks/{endpoint_id}", 303)


def _act(session: Session, viewer: Viewer, endpoint_id: str, action: str, settings: Settings) -> str:
    row = _find(session, viewer, endpoint_id)
    secret = ""
    if action == "test":
        webhooks.load_live_endpoint(session, row.platform_id, endpoint_id)
        deliveries.send_test(session, row)
        return secret
    _audit(session, row, f"endpoint.{action}", _alias(viewer, row.platform_id))
    if action == "rotate":
        overlap = timedelta(hours=settings.webhook_secret_overlap_hours)
        secret = endpoints.rotate_secret(session, SecretBox(settings.keys), row, overlap=overlap)
    elif action == "delete":
        session.delete(row)
    else:
        (endpoints.enable if action == "enable" else endpoints.disable)(session, row)
    return secret


@router.post("/webhooks/deliveries/{delivery_id}/replay")
async def replay(viewer: Viewing, services: Using, delivery_id: str) -> Response:
    """Send one event again."""
    endpoint_id = await services.database.run(_replay, viewer, delivery_id)
    services.doorbell.ring(Doorbell.ring_deliveries)
    return RedirectResponse(f"/webhooks/{encode(Prefix.ENDPOINT, endpoint_id)}", 303)


def _replay(session: Session, viewer: Viewer, delivery_id: str) -> UUID:
    row: Delivery | None = None
    for platform_id in viewer.actor.platforms(Role.ADMIN):
        try:
            row = webhooks.load_delivery(session, platform_id, delivery_id)
            break
        except Problem as problem:
            if problem.status_code != 404:
                raise
    if row is None:
        raise not_found()
    deliveries.replay(session, row)
    return row.endpoint_id
