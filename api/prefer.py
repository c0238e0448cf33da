"""How long would the client wait for the end instead of polling? `Prefer: wait=N` (RFC 7240, section 4.3)."""

import re

WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*", re.IGNORECASE)


def wait_seconds(header: str | None, most: int) -> int:
    """Seconds to wait, at most `most`; 0 where nothing valid was asked for: a preference is never an error."""
    for part in (header or "").split(","):
        found = WAIT.fullmatch(part.partition(";")[0])
        if found is not None:
            return min(int(found[1]), most)
    return 0
