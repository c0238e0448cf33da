"""What happens to bytes that are not HTTP, and to a client that never finishes its headers?

uvicorn answers the first in plain text and waits for the second for ever. Here the first gets a problem document, as
every other error does, and the second a deadline.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api import problems
from screening.ids import Prefix, encode, uuid7

HEADER_SECONDS = 15.0


class ProblemProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with those two answers."""

    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request's headers."""
        super().connection_made(transport)
        self._headers_due = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def on_message_begin(self) -> None:
        """Start the clock of a later request's headers."""
        super().on_message_begin()
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _too_slow(self) -> None:
        self._headers_due = None
        if not self.transport.is_closing():
            self._refuse(problems.TIMEOUT, "The request's headers did not arrive in time.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(problems.MALFORMED, "This is not a valid HTTP request.")

    def _refuse(self, kind: problems.Kind, detail: str) -> None:
        request_id = encode(Prefix.REQUEST, uuid7())
        body = json.dumps(problems.document(kind, detail, request_id, "")).encode()
        head = (
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[kind.status] + head.encode() + body)
        self.transport.close()
