"""What does a receiver read? `{type, timestamp, data}`, the same bytes on each attempt, under 20 kB."""

import json
from datetime import datetime
from typing import Any

from screening.document import timestamp

MAX_BYTES = 20_000


def encode(type: str, created_at: datetime, data: dict[str, Any]) -> bytes:
    """The body of an event. Regions beyond what fits are left out, and `regions_omitted` says how many."""
    body = _dump(type, created_at, data)
    where = data.get("localization")
    if len(body) < MAX_BYTES or not isinstance(where, dict) or not where.get("regions"):
        return body
    regions = list(where["regions"])
    kept = len(regions)
    while len(body) >= MAX_BYTES and kept:
        kept = max(0, min(kept - 1, kept * MAX_BYTES // len(body)))
        short = where | {"regions": regions[:kept], "regions_omitted": len(regions) - kept}
        body = _dump(type, created_at, data | {"localization": short})
    return body


def _dump(type: str, created_at: datetime, data: dict[str, Any]) -> bytes:
    whole = {"type": type, "timestamp": timestamp(created_at), "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
