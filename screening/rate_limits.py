"""May this platform make another request now? A token bucket a platform, in PostgreSQL, the same for every process.

Why there: Redis may be away for hours while intake goes on, and a bucket in each process would grant a platform its
rate once for every process. Each request reads its key from PostgreSQL anyway; this is one more statement there. The
table is unlogged, so the statement waits for no disk, and a refusal writes nothing, so a flood costs its sender more
than it costs us. After a crash of the server the buckets are full again, which is the right side to err on.
"""

import math
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

# Refill for the time that has passed, then take one. Transactions start out of order, hence the clock never goes back.
TAKE = """
INSERT INTO rate_buckets AS b (platform_id, tokens, refilled_at) VALUES (:platform, :burst - 1, assay_now())
ON CONFLICT (platform_id) DO UPDATE
   SET tokens = least(:burst, b.tokens + greatest(0, extract(epoch FROM assay_now() - b.refilled_at)) * :rate) - 1,
       refilled_at = greatest(b.refilled_at, assay_now())
 WHERE least(:burst, b.tokens + greatest(0, extract(epoch FROM assay_now() - b.refilled_at)) * :rate) >= 1
RETURNING tokens
"""

LEFT = """
SELECT b.tokens + greatest(0, extract(epoch FROM assay_now() - b.refilled_at)) * :rate
  FROM rate_buckets b WHERE platform_id = :platform
"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a platform's bucket holds after a request. `burst` is its size in requests, `rate` its refill a second."""

    taken: bool
    tokens: float
    rate: float
    burst: int

    @property
    def remaining(self) -> int:
        """Whole requests left."""
        return max(0, math.floor(self.tokens))

    @property
    def window_seconds(self) -> int:
        """Seconds in which an empty bucket fills up."""
        return max(1, math.ceil(self.burst / self.rate))

    @property
    def reset_seconds(self) -> int:
        """Seconds until at least one more request may be made."""
        return max(1, math.ceil((1 - self.tokens) / self.rate)) if self.tokens < 1 else 0


def take(session: Session, platform_id: UUID, *, rate: float, burst: int) -> Bucket:
    """Take one token if there is one. `taken` tells."""
    values = {"platform": platform_id, "rate": rate, "burst": burst}
    tokens = session.scalar(text(TAKE), values)
    if tokens is not None:
        return Bucket(True, float(tokens), rate, burst)
    return Bucket(False, float(session.scalar(text(LEFT), values) or 0.0), rate, burst)
