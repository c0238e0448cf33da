"""Which requests may be sent twice safely? Those with an `Idempotency-Key`, quoted or not.

A request counts as running from the moment its whole body has arrived: before that nobody can say whether a second one
is the same. Of two that arrive at once, one does the work and the other gets 409, or the first one's answer.
"""

import re
from collections.abc import Callable
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.problems import KEY_REUSED, MALFORMED, STILL_RUNNING, Problem
from api.services import Services
from screening import idempotency
from screening.settings import Settings

KEY = re.compile(r"[\x21-\x7e]{1,255}")
REPLAYED = "Idempotency-Replayed"


def request_of(
    request: Request, platform_id: UUID, fingerprint: bytes, settings: Settings
) -> idempotency.Request | None:
    """The keyed request behind an HTTP request, or None without the header. Raises Problem 400 for a bad key."""
    key = key_of(request)
    if key is None:
        return None
    scope = f"{request.method} {request.url.path}"
    return idempotency.Request(platform_id, scope, key, fingerprint, settings.idempotency_hours)


def key_of(request: Request) -> str | None:
    """The header's value without the quotes of a structured field, or None. Raises Problem 400 for a bad key."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not KEY.fullmatch(key):
        raise Problem(MALFORMED, "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return key


async def once(
    request: Request,
    services: Services,
    platform_id: UUID,
    body: BaseModel | None,
    work: Callable[[Session], idempotency.Answer],
) -> Response:
    """Run a POST's work in one transaction, or replay what it answered before. For bodies that pydantic has read.

    `work` returns the Answer to send and to keep; what it raises is not kept. Raises Problem 400, 409 or 422.
    """
    meaning = b"" if body is None else body.model_dump_json().encode()
    keyed = request_of(request, platform_id, idempotency.fingerprint(meaning), services.settings)
    return response(await services.database.run(answer_once, keyed, work))


def answer_once(
    session: Session, keyed: idempotency.Request | None, work: Callable[[Session], idempotency.Answer]
) -> idempotency.Answer:
    """The kernel's `once`, its errors as problems."""
    try:
        return idempotency.once(session, keyed, work)
    except idempotency.KeyInUseError as error:
        raise Problem(STILL_RUNNING, str(error), headers={"Retry-After": "1"}) from None
    except idempotency.KeyReusedError as error:
        raise Problem(KEY_REUSED, str(error)) from None


def response(answer: idempotency.Answer) -> Response:
    """The answer as sent, marked where it is a replay."""
    headers = answer.headers | ({REPLAYED: "true"} if answer.replayed else {})
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.body, answer.status, headers)
