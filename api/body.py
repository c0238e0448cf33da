"""How much may a client send, and how long may it take? Limits for every request body, whoever reads it.

The limit is enforced while bytes arrive: by `Content-Length` before the first one is read, else at the byte that
passes it. One deadline covers the whole body, so a client that trickles holds nothing for long. An answer that is
given before the body has been read lingers: the rest is read and dropped, within bounds, because closing a socket with
unread data resets it, and the client would lose the very answer that says why.
"""

import asyncio
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import TIMEOUT, TOO_LARGE, Problem

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024


class BodyLimits:
    """ASGI middleware. `limit(scope)` is the number of body bytes that this request may have."""

    def __init__(self, app: ASGIApp, *, limit: Callable[[Scope], int], seconds: float) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, dict(scope["headers"]), self.limit(scope), self.seconds)
        await self.app(scope, body.receive, _lingering(send, body))


class _Body:
    """One request's body on its way in."""

    def __init__(self, receive: Receive, headers: dict[bytes, bytes], limit: int, seconds: float) -> None:
        declared = headers.get(b"content-length", b"")
        self._receive = receive
        self._limit = limit
        self._declared = int(declared) if declared.isdigit() else 0
        self._deadline = time.monotonic() + seconds
        self._seen = 0
        self.complete = self._declared == 0 and b"transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next message; raises Problem 413 past the limit and 408 past the deadline."""
        if self.complete:  # only a disconnect can follow, and waiting for that has no deadline
            return await self._receive()
        if self._declared > self._limit:
            raise self._too_large()
        message = await self._next()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self._too_large()
        return message

    def _too_large(self) -> Problem:
        return Problem(TOO_LARGE, f"The request body may have at most {self._limit} bytes.")

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError as error:
            raise Problem(TIMEOUT, "The body did not arrive in time. Send it again, faster.") from error
        self._note(message)
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True

    async def linger(self) -> None:
        """Read and drop what the client still sends, within bounds."""
        dropped = 0
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.complete and dropped < LINGER_BYTES:
                    message = await self._receive()
                    dropped += len(message.get("body", b""))
                    self._note(message)
        except TimeoutError:
            return


def _lingering(send: Send, body: _Body) -> Send:
    """Announce the close with an early answer, and complete it only when the client has stopped sending."""

    async def sending(message: Message) -> None:
        if body.complete:
            await send(message)
        elif message["type"] == "http.response.start":
            await send({**message, "headers": [*message.get("headers", []), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await send(message)
        else:
            await send({**message, "more_body": True})
            await body.linger()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return sending
