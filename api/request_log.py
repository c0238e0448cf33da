"""What does every request get, whatever it asks? An id, a log line, figures, security headers, and a last resort.

The line names the route's template, never the path or the query, which may hold what people typed; no key, no body.
"""

import time
import traceback
from types import TracebackType

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.metrics import REQUESTS
from screening.ids import Prefix, encode, uuid7

logger = structlog.get_logger(__name__)

CLIENT_GONE = 499  # in logs and figures only: nobody is left to read a status

# For answers that set none of their own; the dashboard's pages do.
SECURITY = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestLog:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self.app = app
        self.headers = SECURITY | (dict([HSTS]) if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and note how it went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["assay.request_id"] = encode(Prefix.REQUEST, uuid7())
        exchange = _Exchange(scope, send, self.headers)
        started = time.perf_counter()
        try:
            await self.app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last resort: an answer without a trace, a log with one
            _log_crash(scope, error)
            await exchange.crash(receive)
        finally:
            _note(scope, exchange.status, time.perf_counter() - started)


class _Exchange:
    """The answer of one request on its way out."""

    def __init__(self, scope: Scope, send: Send, headers: dict[bytes, bytes]) -> None:
        self.scope = scope
        self.status = CLIENT_GONE
        self._send = send
        self._headers = headers
        self._started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message = {**message, "headers": self._complete(message.get("headers", []))}
        await self._send(message)

    def _complete(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own = [(b"x-request-id", self.scope["assay.request_id"].encode()), *self.scope.get("assay.headers", [])]
        names = {name.lower() for name, _ in given}
        return [*given, *own, *((name, value) for name, value in self._headers.items() if name not in names)]

    async def crash(self, receive: Receive) -> None:
        """Answer 500 unless an answer has begun, which can then only be cut off."""
        if self._started:
            raise ConnectionAbortedError("the answer broke off")
        await problems.answer(Request(self.scope), problems.internal())(self.scope, receive, self.send)


def _log_crash(scope: Scope, error: Exception) -> None:
    """Where it broke and of what type, without the message: messages of databases and parsers quote what was sent."""
    logger.error(
        "request.crashed",
        request_id=scope["assay.request_id"],
        error=type(error).__name__,
        where=_frames(error.__traceback__),
    )


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)[-8:]]


def _note(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    REQUESTS.labels(method=_method(scope), route=route, status=str(status)).observe(seconds)
    logger.info(
        "request",
        request_id=scope["assay.request_id"],
        method=_method(scope),
        route=route,
        status=status,
        ms=round(seconds * 1000, 1),
        platform=scope.get("assay.platform"),
    )


def _method(scope: Scope) -> str:
    """The method, or `other`: what clients invent must not become labels."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
