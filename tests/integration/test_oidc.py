"""Signing in through an identity provider: a real one speaks over HTTP here, with keys of its own."""

import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api.app import create_app
from screening.settings import Settings
from screening.tables import Platform
from tests.browsing import Browser, browser, reviewer

Sessions = sessionmaker[Session]


class Provider:
    """An OpenID provider of one user. `claims` go over what its token would say; `key` signs."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.claims: dict[str, Any] = {"sub": "u1", "email": "ada@example.com", "email_verified": True}
        self.codes: dict[str, dict[str, str]] = {}
        self.published = self.key
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(outer.described() if "well-known" in self.path else outer.jwks())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self._send(outer.token({k: v[0] for k, v in parse_qs(body).items()}))

            def _send(self, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def described(self) -> dict[str, Any]:
        ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
        return {"issuer": self.issuer, **{name: self.issuer + path for name, path in ends.items()}}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.published.as_dict(private=False)]}

    def approve(self, address: str) -> str:
        """What the user's click there leads to: the query of the callback."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"code={code}&state={asked['state']}"

    def token(self, form: dict[str, str]) -> dict[str, Any]:
        asked = self.codes.get(form["code"], {})
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": form["client_id"],
            "iat": now,
            "exp": now + 60,
            "nonce": asked.get("nonce"),
        }
        signed = jwt.encode({"alg": "RS256", "kid": "k1"}, {**claims, **self.claims}, self.key)
        return {"id_token": signed, "access_token": "x", "token_type": "Bearer"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
async def page(settings: Settings, provider: Provider) -> AsyncIterator[Browser]:
    configured = {"oidc_issuer": provider.issuer, "oidc_client_id": "assay", "oidc_client_secret": SecretStr("s")}
    app: FastAPI = create_app(settings.model_copy(update=configured))
    async with browser(app) as made:
        yield made
    await app.state.services.close()


async def come_back(page: Browser, provider: Provider, start: str = "/signin/oidc?next=/reviews") -> Any:
    begun = await page.get(start)
    assert begun.status_code == 303, begun.text
    assert begun.headers["location"].startswith(provider.issuer)
    return await page.get(f"/signin/oidc/callback?{provider.approve(begun.headers['location'])}")


async def test_a_known_reviewer_comes_in_and_lands_where_they_wanted(
    page: Browser, provider: Provider, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform)
    answer = await come_back(page, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/reviews"), answer.text
    assert (await page.refresh())["reviewer"]["email"] == "ada@example.com"
    assert "assay_oidc" not in page.cookies


@pytest.mark.parametrize(
    "claims",
    [{"email": "nobody@example.com"}, {"email_verified": False}, {"aud": "another"}, {"iss": "https://evil.example"},
     {"exp": 1}, {"nonce": "another"}],
)  # fmt: skip
async def test_a_token_that_does_not_fit_opens_nothing(
    page: Browser, provider: Provider, sessions: Sessions, platform: Platform, claims: dict[str, Any]
) -> None:
    reviewer(sessions, platform)
    provider.claims |= claims
    answer = await come_back(page, provider)
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_failed")
    assert "assay_session" not in page.cookies


async def test_a_token_of_another_key_opens_nothing(
    page: Browser, provider: Provider, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform)
    provider.published = RSAKey.generate_key(2048, {"kid": "k1"})
    assert (await come_back(page, provider)).json()["code"] == "sign_in_failed"


async def test_an_answer_that_this_browser_did_not_ask_for_opens_nothing(
    page: Browser, provider: Provider, sessions: Sessions, platform: Platform
) -> None:
    reviewer(sessions, platform)
    begun = await page.get("/signin/oidc")
    query = provider.approve(begun.headers["location"])
    forged = page.cookies["assay_oidc"]
    for cookie in ("", "nonsense", forged[:-1] + ("0" if forged[-1] != "0" else "1")):
        page.cookies["assay_oidc"] = cookie
        assert (await page.get(f"/signin/oidc/callback?{query}")).status_code == 401
    page.cookies["assay_oidc"] = forged
    assert (await page.get(f"/signin/oidc/callback?{query}x")).status_code == 401


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"])
async def test_nobody_is_sent_to_another_site_afterwards(
    page: Browser, provider: Provider, sessions: Sessions, platform: Platform, elsewhere: str
) -> None:
    reviewer(sessions, platform)
    answer = await come_back(page, provider, f"/signin/oidc?next={elsewhere}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_without_a_provider_there_is_no_such_page(app: FastAPI) -> None:
    async with browser(app) as page:
        assert (await page.get("/signin/oidc")).status_code == 404
