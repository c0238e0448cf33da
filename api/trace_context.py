"""Which trace does a request belong to? The one that `traceparent` names (W3C Trace Context, section 3.2)."""

import re

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
LONGEST = 256


def traceparent(header: str | None) -> str | None:
    """The header as it is carried to the webhook, or None: a malformed one is ignored, as the standard asks."""
    if header is None or len(header) > LONGEST or TRACEPARENT.fullmatch(header.strip()) is None:
        return None
    return header.strip()[:55]  # version, ids and flags: all that we pass on
