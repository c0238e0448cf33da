"""Where does the next page begin? An opaque token: a keyset position, signed, and bound to what was asked.

A cursor is `base64url(payload || HMAC-SHA256)`. The signature covers the list's name, the platform and the filters, so
that a cursor of one list, platform or filter opens no other; every configured key verifies, the first one signs.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from api.problems import INVALID_CURSOR, Problem
from screening.errors import ConfigurationError

LENGTH = hashlib.sha256().digest_size
LONGEST = 512  # characters; ours have about a hundred


class Cursors:
    """Signs and reads positions `(created_at, id)`."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ConfigurationError(
                "ASSAY_SECRET_KEYS is empty: set it to one or more comma-separated random keys, the newest first "
                "(`openssl rand -base64 32` makes one)."
            )
        # A key of its own: the same secrets encrypt webhook secrets and sign sessions.
        self._keys = [hmac.digest(key.encode(), b"assay cursor 1", "sha256") for key in keys]

    def encode(self, scope: Mapping[str, object], created_at: datetime, id: UUID) -> str:
        """The cursor of the page that begins after this row. `scope` names list, platform and filters."""
        payload = json.dumps([created_at.astimezone(UTC).isoformat(), id.hex], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(payload + self._sign(self._keys[0], scope, payload)).decode().rstrip("=")

    def decode(self, scope: Mapping[str, object], cursor: str) -> tuple[datetime, UUID]:
        """The position behind a cursor. Raises Problem 400 for any that was not given out for this very list."""
        try:
            raw = base64.urlsafe_b64decode(cursor[:LONGEST].encode("ascii") + b"=" * (-len(cursor) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise _refused() from None
        payload, signature = raw[:-LENGTH], raw[-LENGTH:]
        if not any(hmac.compare_digest(self._sign(key, scope, payload), signature) for key in self._keys):
            raise _refused()
        created_at, id = json.loads(payload)
        return datetime.fromisoformat(created_at), UUID(hex=id)

    @staticmethod
    def _sign(key: bytes, scope: Mapping[str, object], payload: bytes) -> bytes:
        asked = json.dumps(scope, sort_keys=True, default=str).encode()
        return hmac.digest(key, hashlib.sha256(asked).digest() + payload, "sha256")


def _refused() -> Problem:
    return Problem(INVALID_CURSOR, "Start again without a cursor, or keep the filters that it was given out for.")
