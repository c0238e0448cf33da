"""How does a test sign in? As a browser does: cookies by name, and the CSRF token that a page would send.

The cookies are Secure, so that Python's cookie jar would keep them from a plain connection; they are carried by hand.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from http.cookies import SimpleCookie
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from screening import reviewers, sign_in
from screening.actors import Role
from screening.tables import Platform, Reviewer

PASSWORD = "correct horse battery staple"


@cache
def password_hash() -> str:
    """Hashed once a run: it takes its time by design."""
    return reviewers.hash_password(PASSWORD)


def reviewer(
    sessions: sessionmaker[Session], *platforms: Platform, role: Role = Role.REVIEWER, email: str = "ada@example.com"
) -> Reviewer:
    """A reviewer with one role on some platforms."""
    with sessions.begin() as session:
        made = reviewers.create(session, email, "Ada", None)
        made.password_hash = password_hash()
        for platform in platforms:
            reviewers.grant(session, made, platform.id, role)
    return made


class Browser:
    """A client that carries cookies and the CSRF token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; the token goes along unless `headers` are given."""
        headers = dict(options.pop("headers", {"X-CSRF-Token": self.csrf}))
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.client.request(method, path, headers=headers, **options)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                assert morsel["secure"]
                assert morsel["httponly"]
                assert morsel["samesite"].lower() == "lax"
                self.cookies[name] = morsel.value
                if not morsel.value:
                    del self.cookies[name]
        return answer

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        """POST JSON."""
        return await self.send("POST", path, json={} if json is None else json, **options)

    async def refresh(self) -> dict[str, Any]:
        """Ask who is signed in, and keep the token."""
        body: dict[str, Any] = (await self.get("/v1/session")).json()
        self.csrf = body["csrf_token"]
        return body

    async def try_sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        """Send the form; keep the new token where it worked."""
        await self.refresh()
        answer = await self.post("/v1/session", {"email": email, "password": password})
        if answer.status_code == 200:
            self.csrf = answer.json()["csrf_token"]
        return answer

    async def enter(self, sessions: sessionmaker[Session], person: Reviewer) -> "Browser":
        """Be signed in already, without a password."""
        with sessions.begin() as session:
            self.cookies["assay_session"] = sign_in.admit(session, person.id)
        await self.refresh()
        return self

    async def sign_in(self, email: str = "ada@example.com") -> "Browser":
        """Sign in, for certain."""
        answer = await self.try_sign_in(email)
        assert answer.status_code == 200, answer.text
        return self


@asynccontextmanager
async def browser(app: FastAPI) -> AsyncIterator[Browser]:
    """A fresh browser before the app."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield Browser(client)


@asynccontextmanager
async def signed_in(
    app: FastAPI, sessions: sessionmaker[Session], *granted: Platform, role: Role
) -> AsyncIterator[Browser]:
    """A browser whose reviewer has this role on the platforms granted."""
    person = reviewer(sessions, *granted, role=role, email=f"{role}@example.com")
    async with browser(app) as page:
        yield await page.enter(sessions, person)
