"""Which requests may be sent twice safely? Those with an `Idempotency-Key`, quoted or not.

A request counts as running from the moment its whole body has arrived: before that nobody can say whether a second one
is the same. Of two that arrive at once, one does the work and the other gets 409, or the first one's answer.
"""

import re
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.problems import MALFORMED, Problem
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


def response(answer: idempotency.Answer) -> Response:
    """The answer as sent, marked where it is a replay."""
    headers = answer.headers | ({REPLAYED: "true"} if answer.replayed else {})
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return JSONResponse(answer.body, answer.status, headers)
