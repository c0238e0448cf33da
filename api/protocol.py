"""What happens to bytes that are not HTTP, and to headers that never end?

uvicorn answers the first in plain text, and of the second it waits for ever and keeps every byte: with its parser a
request line, headers, trailers and the extensions of chunks have no limit. Here the first gets a problem document, as
every other error does, and the second a deadline and a size, before anybody has shown a key.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api import problems
from screening.ids import Prefix, encode, uuid7

HEADER_SECONDS = 15.0
MOST_HEAD_BYTES = 64 * 1024  # several times what proxies allow; a read that passes it may bring 256 kB more


class ProblemProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with those answers."""

    _headers_due: asyncio.TimerHandle | None = None
    _held = 0  # bytes since the last of a body, or the end of a head: what the parser keeps in memory

    def connection_made(self, transport: Any) -> None:
        """Start the clock of the first request's headers."""
        super().connection_made(transport)
        self._headers_due = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what is no body and does not end."""
        self._held += len(data)
        super().data_received(data)
        if self._held > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(problems.HEAD_TOO_LARGE, f"All but the body may have {MOST_HEAD_BYTES} bytes.")

    def on_body(self, body: bytes) -> None:
        """A body is counted and timed where it is read."""
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What follows is the next request."""
        self._held = 0
        super().on_message_complete()

    def on_message_begin(self) -> None:
        """Start the clock of a later request's headers."""
        super().on_message_begin()
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._held = 0
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
