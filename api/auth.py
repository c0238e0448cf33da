"""Who is calling, may they, and how often? One transaction a request: key, platform, token bucket."""

from dataclasses import dataclass

from sqlalchemy.orm import Session
from starlette.requests import Request

from api.problems import FORBIDDEN, RATE_LIMITED, UNAUTHENTICATED, Problem
from api.services import Services
from screening import api_keys, platforms, rate_limits
from screening.api_keys import Caller, Scope
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Platform

LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Admission:
    """An authenticated caller, its platform, and what is left in the platform's bucket."""

    caller: Caller
    platform: Platform
    bucket: rate_limits.Bucket

    @property
    def actor(self) -> str:
        """How the audit names the caller: by key, which is nobody's name."""
        return encode(Prefix.API_KEY, self.caller.key_id)


async def admit(request: Request, services: Services, scope: Scope | None) -> Admission:
    """Let a request in; None asks for no scope in particular. Raises Problem 401, 403 or 429."""
    key = bearer(request)
    admission = None if key is None else await services.database.run(_admit, key, services.settings)
    if admission is None:
        raise Problem(
            UNAUTHENTICATED,
            "Send a valid key as `Authorization: Bearer <key>`.",
            headers={"WWW-Authenticate": 'Bearer realm="assay"'},
        )
    request.scope["assay.platform"] = encode(Prefix.PLATFORM, admission.platform.id)
    request.scope["assay.headers"] = rate_headers(admission.bucket)
    if not admission.bucket.taken:
        raise Problem(
            RATE_LIMITED,
            "The platform's rate is used up. Wait as long as Retry-After says.",
            headers={"Retry-After": str(admission.bucket.reset_seconds)},
        )
    if scope is not None:
        require(admission.caller, scope)
    return admission


def require(caller: Caller, scope: Scope) -> None:
    """Raise Problem 403 unless the key has the scope."""
    if scope not in caller.scopes:
        raise Problem(
            FORBIDDEN,
            f"The key lacks the scope `{scope}`.",
            headers={"WWW-Authenticate": f'Bearer realm="assay", error="insufficient_scope", scope="{scope}"'},
        )


def bearer(request: Request) -> str | None:
    """The key of the Authorization header (RFC 6750, section 2.1), or None."""
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    return key if kind.lower() == "bearer" and 0 < len(key) <= LONGEST_KEY and key.isascii() else None


def _admit(session: Session, key: str, settings: Settings) -> Admission | None:
    caller = api_keys.authenticate(session, key)
    if caller is None:
        return None
    platform = platforms.find(session, caller.platform_id)
    if platform is None:
        return None
    bucket = rate_limits.take(
        session,
        platform.id,
        rate=platform.rate_per_second or settings.default_rate_per_second,
        burst=platform.burst or settings.default_burst,
    )
    return Admission(caller, platform, bucket)


def rate_headers(bucket: rate_limits.Bucket) -> list[tuple[bytes, bytes]]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers, sections 3 and 4)."""
    policy = f'"platform";q={bucket.burst};w={bucket.window_seconds}'
    left = f'"platform";r={bucket.remaining};t={bucket.reset_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
