"""What does a client read when something went wrong? A problem document (RFC 9457), on every 4xx and 5xx.

Raise `Problem(KIND, "what to do")` anywhere below a route. `install` turns the framework's own errors, the kernel's
and the database's into the same shape. Nothing of the cause leaks: no traces, no SQL, no values that were sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.metrics import PROBLEMS
from screening.actors import NotGrantedError, RoleTooSmallError
from screening.decisions import UnknownReasonError
from screening.errors import BlobNotFoundError, BlobStoreError, ConflictError, LegalHoldError
from screening.policies import StalePolicyError

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5  # a server that restarts is back within a few of these
MAX_ERRORS = 50  # a body of a thousand wrong fields is one mistake, not a thousand


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of problem. Clients branch on `code`; codes may grow, none is renamed."""

    code: str
    status: int
    title: str


MALFORMED = Kind("malformed_request", 400, "The request could not be read")
UNDECODABLE_HEADER = Kind("undecodable_header", 400, "The image header could not be read")
INVALID_CURSOR = Kind("invalid_cursor", 400, "The cursor is not valid here")
UNAUTHENTICATED = Kind("unauthenticated", 401, "No valid API key")
FORBIDDEN = Kind("forbidden", 403, "The key may not do this")
OBJECT_FORBIDDEN = Kind("object_forbidden", 403, "The bucket is not open to this platform")
NOT_FOUND = Kind("not_found", 404, "Not found")
NOT_READY = Kind("not_ready", 404, "Not there yet")
TIMEOUT = Kind("request_timeout", 408, "The request body came too slowly")
CONFLICT = Kind("conflict", 409, "Not possible in the present state")
CSRF = Kind("csrf", 403, "The request does not come from one of our pages")
ROLE_TOO_SMALL = Kind("role_too_small", 403, "The role on this platform does not suffice")
SIGNED_OUT = Kind("unauthenticated", 401, "Not signed in")
WRONG_CREDENTIALS = Kind("wrong_credentials", 401, "The address or the password is wrong")
LOCKED_OUT = Kind("locked_out", 429, "Too many wrong passwords")
PLATFORM_REQUIRED = Kind("platform_required", 422, "Say which platform is meant")
STALE_POLICY = Kind("stale_policy", 412, "The policy has changed since it was read")
PRECONDITION_REQUIRED = Kind("precondition_required", 428, "If-Match is required")
LEGAL_HOLD = Kind("legal_hold", 409, "Under legal hold")
STILL_RUNNING = Kind("idempotency_key_in_use", 409, "A request with this key is still running")
ERASED = Kind("erased", 410, "Erased")
TOO_LARGE = Kind("too_many_bytes", 413, "Too large")
HEAD_TOO_LARGE = Kind("head_too_large", 431, "The request's headers are too large")
UNSUPPORTED_FORMAT = Kind("unsupported_format", 415, "The image format is not accepted")
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported_media_type", 415, "The content type is not accepted")
INVALID = Kind("invalid_request", 422, "Some fields are not valid")
TOO_MANY_PIXELS = Kind("too_many_pixels", 422, "The image is too large in pixels")
KEY_REUSED = Kind("idempotency_key_reused", 422, "The idempotency key belongs to another request")
RATE_LIMITED = Kind("rate_limited", 429, "Too many requests")
QUOTA_REACHED = Kind("queue_quota_reached", 429, "Too many screenings are waiting")
INTERNAL = Kind("internal_error", 500, "Something went wrong on our side")
BACK_PRESSURE = Kind("back_pressure", 503, "The queue is too old to take more")
UNAVAILABLE = Kind("unavailable", 503, "A part of the service is away")


class Problem(HTTPException):
    """An answer that says what is wrong and what to do.

    `errors` are `{"detail", "pointer"}` objects, the pointer a JSON Pointer into the body as a URI fragment (RFC 6901).
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind.status, detail, headers)
        self.kind = kind
        self.errors = list(errors)


def invalid(pointer: str, detail: str) -> Problem:
    """A 422 about one field of the body, named by JSON Pointer ("/metadata")."""
    return Problem(INVALID, "See errors.", errors=[{"detail": detail, "pointer": f"#{pointer}"}])


def not_found() -> Problem:
    """The one 404: malformed, unknown and foreign ids look alike."""
    return Problem(NOT_FOUND, "There is nothing here under this id.")


def document(kind: Kind, detail: str, request_id: str, instance: str) -> dict[str, Any]:
    """The members of every problem document."""
    return {
        "type": f"urn:assay:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": instance,
        "code": kind.code,
        "request_id": request_id,
    }


def answer(request: Request, problem: Problem) -> Response:
    """The response of a problem; `instance` is the path without the query, which may hold what people typed."""
    PROBLEMS.labels(code=problem.kind.code).inc()
    body = document(problem.kind, str(problem.detail), request_id(request), request.url.path)
    if problem.errors:
        body["errors"] = problem.errors
    return JSONResponse(body, problem.status_code, headers=dict(problem.headers or {}), media_type=MEDIA_TYPE)


def request_id(request: Request) -> str:
    """The id under which the access log knows this request."""
    return str(request.scope.get("assay.request_id", "unknown"))


def install(app: FastAPI) -> None:
    """Register the handlers; everything else that is raised becomes a 500 in `api/request_log.py`."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(LegalHoldError, _legal_hold)
    app.add_exception_handler(NotGrantedError, _not_granted)
    app.add_exception_handler(RoleTooSmallError, _role_too_small)
    app.add_exception_handler(ConflictError, _conflict)
    app.add_exception_handler(StalePolicyError, _stale_policy)
    app.add_exception_handler(UnknownReasonError, _unknown_reason)
    app.add_exception_handler(BlobStoreError, _away)
    app.add_exception_handler(BlobNotFoundError, _gone)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(PoolTimeoutError, _away)


def _http(request: Request, error: Exception) -> Response:
    """Problems as they are; the framework's own (404 and 405 of routing, 400 of parsing) in the same shape."""
    if isinstance(error, Problem):
        return answer(request, error)
    assert isinstance(error, HTTPException)  # noqa: S101 - by registration
    kind = {404: NOT_FOUND, 400: MALFORMED}.get(error.status_code) or _standard(error.status_code)
    return answer(request, Problem(kind, str(error.detail), headers=error.headers))


def _standard(status: int) -> Kind:
    phrase = HTTPStatus(status).phrase
    return Kind(phrase.lower().replace(" ", "_").replace("-", "_"), status, phrase)


def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - by registration
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return answer(request, Problem(MALFORMED, "The body is not valid JSON."))
    errors = [{"detail": item["msg"], "pointer": pointer(item["loc"])} for item in found[:MAX_ERRORS]]
    return answer(request, Problem(INVALID, "See errors.", errors=errors))


def pointer(location: Sequence[int | str]) -> str:
    """Pydantic's location as a JSON Pointer fragment: ("body", "source", "url") is `#/source/url`.

    What is not in the body keeps its place as the first token: `#/query/limit`.
    """
    parts = location[1:] if location and location[0] == "body" else location
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "#" + "".join(f"/{part}" for part in escaped)


def _legal_hold(request: Request, error: Exception) -> Response:
    return answer(request, Problem(LEGAL_HOLD, str(error)))


def _gone(request: Request, error: Exception) -> Response:
    """A row speaks of bytes that are not there: erased a moment ago, or lost, which the log should tell."""
    logger.warning("blob.missing", request_id=request_id(request))
    return answer(request, not_found())


def _not_granted(request: Request, error: Exception) -> Response:
    return answer(request, not_found())


def _role_too_small(request: Request, error: Exception) -> Response:
    return answer(request, Problem(ROLE_TOO_SMALL, str(error)))


def _conflict(request: Request, error: Exception) -> Response:
    assert isinstance(error, ConflictError)  # noqa: S101 - by registration
    return answer(request, Problem(Kind(error.code, 409, CONFLICT.title), str(error)))


def _stale_policy(request: Request, error: Exception) -> Response:
    return answer(request, Problem(STALE_POLICY, str(error)))


def _unknown_reason(request: Request, error: Exception) -> Response:
    return answer(request, invalid("/reason", str(error)))


def _away(request: Request, error: Exception) -> Response:
    """Storage or the connection pool does not answer: the client's request was fine."""
    logger.warning("dependency.away", error=type(error).__name__, request_id=request_id(request))
    return answer(request, unavailable())


def _database(request: Request, error: Exception) -> Response:
    """A server that is away or restarting is a 503; a statement that it refused is a bug, hence a 500."""
    assert isinstance(error, DBAPIError)  # noqa: S101 - by registration
    if isinstance(error, (OperationalError, InterfaceError)) or error.connection_invalidated:
        return _away(request, error)
    if isinstance(error, DataError):
        return answer(request, Problem(INVALID, "A value cannot be stored: text may not hold NUL, numbers are finite."))
    logger.error("database.refused", error=type(error.orig).__name__, request_id=request_id(request))
    return answer(request, internal())


def unavailable() -> Problem:
    """The 503 of a database or blob store that is away."""
    return Problem(
        UNAVAILABLE, "Storage did not answer. Send the request again.", headers={"Retry-After": str(RETRY_SECONDS)}
    )


def internal() -> Problem:
    """The 500; its cause is in the log under the request id."""
    return Problem(INTERNAL, "The cause is logged under the request id. Sending the request again may help.")
