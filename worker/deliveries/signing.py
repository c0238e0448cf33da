"""How does a receiver know that a request is ours? By Standard Webhooks signatures, made by its own library."""

from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook


def headers(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of an attempt made at `at` (UTC). One signature a secret: during a rotation either verifies."""
    signatures = [Webhook(secret).sign(message_id, at, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
