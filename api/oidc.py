"""How does somebody sign in through the operator's identity provider? OpenID Connect, code flow with PKCE.

The provider proves who somebody is; which platforms they may see is still ours to say: only an existing reviewer gets
in, found by the provider's subject, or the first time by an address that the provider has verified.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from api.problems import Kind, Problem
from screening.settings import Settings

COOKIE = "assay_oidc"
SECONDS = 600  # to come back from the provider in
CLOCK_SKEW = 60
ALGORITHMS = ["RS256", "ES256", "PS256"]  # never `none`, never one that a public key could be a secret of
FAILED = Kind("sign_in_failed", 401, "The identity provider's answer cannot be used")


@dataclass(frozen=True, slots=True)
class Errand:
    """What a browser carries to the provider and back, in a signed cookie."""

    state: str
    nonce: str
    verifier: str
    next: str
    until: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is. `email` only where the provider has verified it."""

    issuer: str
    subject: str
    email: str | None


class IdentityProvider:
    """One provider, by its issuer's discovery document, which is read once."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._issuer = (settings.oidc_issuer or "").rstrip("/")
        self._transport = transport
        self._described: dict[str, Any] | None = None

    @property
    def callback(self) -> str:
        """Where the provider sends people back to."""
        return f"{self._settings.public_url}/signin/oidc/callback"

    async def send(self, next_page: str) -> tuple[str, str]:
        """The provider's address to go to, and the cookie to carry. Raises Problem 401 where it does not answer."""
        errand = Errand(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next=next_page,
            until=int(time.time()) + SECONDS,
        )
        challenge = base64.urlsafe_b64encode(hashlib.sha256(errand.verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self.callback,
            "scope": "openid email",
            "state": errand.state,
            "nonce": errand.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        described = await self._description()
        return str(httpx.URL(described["authorization_endpoint"]).copy_merge_params(query)), self._seal(errand)

    async def receive(self, code: str, state: str, cookie: str) -> tuple[Identity, str]:
        """Who came back, and the page they wanted. Raises Problem 401 for whatever does not fit together."""
        errand = self._open(cookie)
        if errand is None or not hmac.compare_digest(errand.state.encode(), state.encode()):
            raise Problem(FAILED, "Start again from the sign-in page.")
        claims = await self._claims(code, errand)
        verified = claims.get("email") if claims.get("email_verified") is True else None
        return Identity(claims["iss"], claims["sub"], verified), errand.next

    async def _claims(self, code: str, errand: Errand) -> dict[str, Any]:
        described = await self._description()
        answer = await self._ask("POST", described["token_endpoint"], data={
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.callback,
            "code_verifier": errand.verifier, "client_id": self._settings.oidc_client_id,
            "client_secret": self._settings.oidc_client_secret.get_secret_value(),
        })  # fmt: skip
        keys = await self._ask("GET", described["jwks_uri"])
        try:
            token = jwt.decode(answer["id_token"], KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            self._registry(described["issuer"], errand.nonce).validate(token.claims)
        except (JoseError, KeyError, ValueError, TypeError) as error:
            raise Problem(FAILED, "The identity provider's token does not verify.") from error
        return dict(token.claims)

    def _registry(self, issuer: str, nonce: str) -> jwt.JWTClaimsRegistry:
        """What a token must say (OpenID Connect Core 1.0, section 3.1.3.7)."""
        return jwt.JWTClaimsRegistry(
            leeway=CLOCK_SKEW,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )

    async def _description(self) -> dict[str, Any]:
        if self._described is None:
            described = await self._ask("GET", f"{self._issuer}/.well-known/openid-configuration")
            if str(described.get("issuer", "")).rstrip("/") != self._issuer:
                raise Problem(FAILED, "The identity provider describes another issuer than the one configured.")
            self._described = described
        return self._described

    async def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(transport=self._transport, timeout=10) as client:
                answer = await client.request(method, url, **options)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Problem(FAILED, "The identity provider does not answer as it should.") from error
        return found

    def _seal(self, errand: Errand) -> str:
        payload = base64.urlsafe_b64encode(json.dumps(asdict(errand)).encode()).decode()
        return f"{payload}.{self._signature(self._settings.keys[0], payload)}"

    def _open(self, cookie: str) -> Errand | None:
        payload, _, signature = cookie.partition(".")
        fits = [hmac.compare_digest(self._signature(key, payload), signature) for key in self._settings.keys]
        if not any(fits):
            return None
        errand = Errand(**json.loads(base64.urlsafe_b64decode(payload)))
        return errand if errand.until > time.time() else None

    @staticmethod
    def _signature(key: str, payload: str) -> str:
        derived = hmac.digest(key.encode(), b"assay oidc 1", "sha256")
        return hmac.new(derived, payload.encode("ascii", "replace"), hashlib.sha256).hexdigest()
