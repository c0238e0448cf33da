"""Webhook endpoints: where a platform listens, and with which secret."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.orm import Session

from api import idempotency, pagination, webhooks
from api.auth import Admission
from api.dependencies import Reader, Using, Writer
from api.problems import CONFLICT, Problem
from api.schemas.screening_list import Paging
from api.schemas.webhook import EndpointChange, NewEndpoint
from api.services import Services
from screening import audit, endpoints, webhook_document
from screening.broker import Doorbell
from screening.endpoints import TooManyEndpointsError
from screening.idempotency import Answer, fingerprint
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Endpoint
from screening.webhook_secrets import SecretBox

router = APIRouter(tags=["webhooks"])
URL = "/v1/webhook-endpoints"


@router.post(URL, status_code=201)
async def create_endpoint(body: NewEndpoint, request: Request, caller: Writer, services: Using) -> Response:
    """Listen at a URL. The answer holds the secret, which no later answer shows."""
    settings = services.settings
    webhooks.check_url(body.url, settings)

    def work(session: Session) -> Answer:
        row = _create(session, caller, body, settings)
        location = f"{settings.public_url}{URL}/{encode(Prefix.ENDPOINT, row.id)}"
        return Answer(201, {"Location": location}, webhook_document.endpoint(row))

    return await _once_with_secret(request, services, caller, body, work)


def _create(session: Session, caller: Admission, body: NewEndpoint, settings: Settings) -> Endpoint:
    try:
        row, _ = endpoints.create(
            session,
            SecretBox(settings.keys),
            caller.platform.id,
            body.url,
            types=[t.value for t in body.types],
            description=body.description,
            ordered=body.ordered,
            most=settings.webhook_endpoints_max,
        )
    except TooManyEndpointsError as error:
        raise Problem(CONFLICT, str(error)) from None
    _audit(session, caller, "endpoint.created", row)
    return row


async def _once_with_secret(
    request: Request, services: Services, caller: Admission, body: NewEndpoint | None, work: Callable[[Session], Answer]
) -> Response:
    """As `idempotency.once`, with the secret added on the way out: what is kept to be replayed does not hold it."""
    meaning = b"" if body is None else body.model_dump_json().encode()
    keyed = idempotency.request_of(request, caller.platform.id, fingerprint(meaning), services.settings)

    def with_secret(session: Session) -> Answer:
        answer = idempotency.answer_once(session, keyed, work)
        public_id = str((answer.body or {})["id"])
        row = webhooks.load_endpoint(session, caller.platform.id, public_id)
        secret = SecretBox(services.settings.keys).open(row.secret)
        return Answer(answer.status, answer.headers, {**(answer.body or {}), "secret": secret}, answer.replayed)

    answer = await services.database.run(with_secret)
    response = idempotency.response(answer)
    response.headers["Cache-Control"] = "no-store"
    return response


def _audit(session: Session, caller: Admission, action: str, row: Endpoint) -> None:
    subject = encode(Prefix.ENDPOINT, row.id)
    audit.append(session, actor=caller.actor, action=action, subject=subject, platform_id=row.platform_id)


@router.get(URL)
async def list_endpoints(wanted: Annotated[Paging, Query()], caller: Reader, services: Using) -> Response:
    """The platform's endpoints, newest first."""
    bound_to = pagination.scope("endpoints", caller.platform.id, wanted)
    after = pagination.position(services.cursors, bound_to, wanted)
    data, next = await services.database.run(webhooks.endpoint_page, caller.platform.id, wanted, after)
    cursor = None if next is None else services.cursors.encode(bound_to, *next)
    return pagination.response(data, url=f"{services.settings.public_url}{URL}", wanted=wanted, cursor=cursor)


@router.get(URL + "/{endpoint_id}")
async def get_endpoint(endpoint_id: str, caller: Reader, services: Using) -> Response:
    """One endpoint, without its secret."""
    row = await services.database.run(webhooks.load_endpoint, caller.platform.id, endpoint_id)
    return JSONResponse(webhook_document.endpoint(row))


@router.patch(URL + "/{endpoint_id}")
async def change_endpoint(endpoint_id: str, body: EndpointChange, caller: Writer, services: Using) -> Response:
    """Change what is given. Enabling forgets why it was disabled, and sends what waited."""
    if body.url is not None:
        webhooks.check_url(body.url, services.settings)
    row = await services.database.run(_change, caller, endpoint_id, body)
    if body.enabled:
        services.doorbell.ring(Doorbell.ring_deliveries)
    return JSONResponse(webhook_document.endpoint(row))


def _change(session: Session, caller: Admission, endpoint_id: str, body: EndpointChange) -> Endpoint:
    row = webhooks.load_endpoint(session, caller.platform.id, endpoint_id)
    for name in body.model_fields_set & {"url", "description", "ordered"}:
        setattr(row, name, getattr(body, name))
    if body.types is not None:
        row.types = sorted({t.value for t in body.types})
    if body.enabled is not None:
        (endpoints.enable if body.enabled else endpoints.disable)(session, row)
    session.flush()
    _audit(session, caller, "endpoint.changed", row)
    return row


@router.delete(URL + "/{endpoint_id}", status_code=204)
async def delete_endpoint(endpoint_id: str, caller: Writer, services: Using) -> Response:
    """Stop listening; its deliveries and their log go with it."""
    await services.database.run(_delete, caller, endpoint_id)
    return Response(status_code=204)


def _delete(session: Session, caller: Admission, endpoint_id: str) -> None:
    row = webhooks.load_endpoint(session, caller.platform.id, endpoint_id)
    _audit(session, caller, "endpoint.deleted", row)
    session.delete(row)


@router.post(URL + "/{endpoint_id}/rotate-secret")
async def rotate_secret(endpoint_id: str, request: Request, caller: Writer, services: Using) -> Response:
    """A new secret. For a day both sign, so that the receiver can change without losing anything."""
    settings = services.settings

    def work(session: Session) -> Answer:
        row = webhooks.load_endpoint(session, caller.platform.id, endpoint_id)
        overlap = timedelta(hours=settings.webhook_secret_overlap_hours)
        endpoints.rotate_secret(session, SecretBox(settings.keys), row, overlap=overlap)
        _audit(session, caller, "endpoint.secret_rotated", row)
        return Answer(200, {}, webhook_document.endpoint(row))

    return await _once_with_secret(request, services, caller, None, work)
