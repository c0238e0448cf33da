"""What does a platform's end of a webhook look like? The demo's: it checks each signature and writes a line.

WEBHOOK_SECRET=whsec_... python -m screening.stack.receiver PORT
"""

import base64
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds between the sender's clock and ours; older is a replay
LARGEST = 64 * 1024


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether the body was signed with the secret, lately (Standard Webhooks 1.0)."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    ours = b"v1," + base64.b64encode(hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256"))
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(ours, theirs) for theirs in signatures)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is signed and 401 to what is not."""

    timeout = 10

    def do_POST(self) -> None:
        """Read, verify, say."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        signed = verified(os.environ["WEBHOOK_SECRET"], headers, body)
        self.send_response(204 if signed else 401)
        self.end_headers()
        event = json.loads(body) if signed else {}
        data = event.get("data", {})
        line = {"signed": signed, "id": headers.get("webhook-id"), "type": event.get("type"), "about": data.get("id")}
        sys.stdout.write(f"{json.dumps(line)}\n")  # in one piece: requests have threads of their own, and one log
        sys.stdout.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The line above says more than the framework's."""


def main() -> None:
    """Listen on loopback until stopped."""
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()


if __name__ == "__main__":
    main()
