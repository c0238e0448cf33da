"""A platform's end of Assay's webhooks: verify, answer at once, work afterwards, handle each id once.

pip install standardwebhooks
WEBHOOK_SECRET=whsec_... python receiver.py 8080
"""

import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from standardwebhooks import Webhook, WebhookVerificationError

LARGEST = 64 * 1024  # Assay's bodies are under 20 kB

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
work: "queue.Queue[tuple[str, dict[str, object]]]" = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is signed, 400 to what is not."""

    timeout = 10

    def do_POST(self) -> None:
        """Verify, queue, answer."""
        length = int(self.headers.get("content-length") or 0)
        if length > LARGEST:
            self.send_error(413)
            return
        body = self.rfile.read(length)  # the bytes as they came: parsed and printed again, they would not verify
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(400, "signature")
            return
        work.put((self.headers["webhook-id"], event))
        self.send_response(204)
        self.end_headers()


def handle(event: dict[str, object]) -> None:
    """Yours: look up the post by `client_ref`, act on the verdict."""
    data = cast("dict[str, object]", event["data"])
    line = json.dumps({"type": event["type"], "id": data.get("id"), "client_ref": data.get("client_ref")})
    sys.stdout.write(f"{line}\n")  # in one piece: unbuffered, print would let another thread's line in before the end
    sys.stdout.flush()


def worker() -> None:
    """Handle what was taken, each id once."""
    seen: set[str] = set()  # a table with a unique key, in earnest: an event may come more than once
    while True:
        message_id, event = work.get()
        if message_id not in seen:
            handle(event)
            seen.add(message_id)


if __name__ == "__main__":
    threading.Thread(target=worker, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
