"""Deliveries: the log of what was sent, and sending it once more."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api import idempotency, pagination, webhooks
from api.dependencies import Reader, Using, Writer
from api.routes.webhook_endpoints import URL
from api.schemas.webhook import DeliveryFilter, TimeRange
from screening import deliveries
from screening.broker import Doorbell
from screening.idempotency import Answer

router = APIRouter(tags=["webhooks"])

REPLAYED_AT_ONCE = 10_000


@router.post(URL + "/{endpoint_id}/test", status_code=202)
async def test_endpoint(endpoint_id: str, request: Request, caller: Writer, services: Using) -> Response:
    """Send a `webhook.test` event to this endpoint alone."""

    def work(session: Session) -> Answer:
        row = webhooks.load_live_endpoint(session, caller.platform.id, endpoint_id)
        return Answer(202, {}, webhooks.delivery_object(session, deliveries.send_test(session, row)))

    response = await idempotency.once(request, services, caller.platform.id, None, work)
    services.doorbell.ring(Doorbell.ring_deliveries)
    return response


@router.get(URL + "/{endpoint_id}/deliveries")
async def list_deliveries(
    endpoint_id: str, wanted: Annotated[DeliveryFilter, Query()], caller: Reader, services: Using
) -> Response:
    """What was sent to an endpoint, newest first, with every attempt and its answer."""
    bound_to = pagination.scope("deliveries", caller.platform.id, wanted) | {"endpoint": endpoint_id}
    after = pagination.position(services.cursors, bound_to, wanted)
    data, next = await services.database.run(webhooks.delivery_page, caller.platform.id, endpoint_id, wanted, after)
    cursor = None if next is None else services.cursors.encode(bound_to, *next)
    url = f"{services.settings.public_url}{URL}/{endpoint_id}/deliveries"
    return pagination.response(data, url=url, wanted=wanted, cursor=cursor)


@router.post("/v1/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(delivery_id: str, request: Request, caller: Writer, services: Using) -> Response:
    """Send an event to its endpoint once more, at once, under the same `webhook-id`."""

    def work(session: Session) -> Answer:
        row = webhooks.load_delivery(session, caller.platform.id, delivery_id)
        return Answer(202, {}, webhooks.delivery_object(session, deliveries.replay(session, row)))

    response = await idempotency.once(request, services, caller.platform.id, None, work)
    services.doorbell.ring(Doorbell.ring_deliveries)
    return response


@router.post(URL + "/{endpoint_id}/replay", status_code=202)
async def replay_range(
    endpoint_id: str, body: TimeRange, request: Request, caller: Writer, services: Using
) -> Response:
    """Send the events of a time range once more, also those from before the endpoint or while it was disabled.

    At most 10,000 at a time, the oldest first; `more` says that the range holds others. Events whose delivery is
    still under way are left to it.
    """

    def work(session: Session) -> Answer:
        row = webhooks.load_live_endpoint(session, caller.platform.id, endpoint_id)
        count = deliveries.replay_range(
            session,
            row.id,
            body.since,
            body.until,
            undelivered=body.undelivered_only,
            limit=REPLAYED_AT_ONCE,
        )
        return Answer(202, {}, {"object": "replay", "count": count, "more": count == REPLAYED_AT_ONCE})

    response = await idempotency.once(request, services, caller.platform.id, body, work)
    services.doorbell.ring(Doorbell.ring_deliveries)
    return response
