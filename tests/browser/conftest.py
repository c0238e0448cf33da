"""What does a browser test need? A real server, a real Chromium, and images that wait before people."""

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from screening.actors import Role
from screening.embedded import EmbeddedPostgres
from screening.embedded.process import free_port, wait_until
from screening.stack.supervisor import Supervisor
from screening.tables import Platform
from tests import pictures
from tests.browsing import PASSWORD, reviewer
from tests.conftest import empty_database
from tests.reviewing import policy, screened, with_files

Sessions = sessionmaker[Session]
LAUNCH = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
DATABASE = "browser"
EMAIL = "ada@example.com"
SECOND_EMAIL = "bea@example.com"


def chromium() -> str:
    """The browser's path; a machine without one is told how to get it."""
    found = os.environ.get("ASSAY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: install it, or name it in ASSAY_CHROMIUM")
    return found


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A running API with its database."""

    url: str
    sessions: Sessions
    platform: Platform
    blob_url: str

    def waiting(self, count: int, rng: random.Random, **finding: Any) -> list[UUID]:
        """New reviews with real pictures, masks and heat maps."""
        made = [screened(self.sessions, self.platform, **{"score": rng.random(), **finding}) for _ in range(count)]
        for review_id in made:
            with_files(self.sessions, self.blob_url, review_id, pictures.jpeg(320, 240))
        return made


@dataclass(frozen=True, slots=True)
class Served:
    """Where the API is, and where its files lie."""

    url: str
    blob_url: str


@pytest.fixture(scope="package")
def served(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`assay api` as a process, without Redis: reviewing needs none. Only its database is another at each test."""
    folder = tmp_path_factory.mktemp("browser")
    port = free_port()
    made = Served(f"http://127.0.0.1:{port}", (folder / "blobs").as_uri())
    environment = {
        "ASSAY_DATABASE_URL": postgres.url(DATABASE),
        "ASSAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "ASSAY_BLOB_URL": made.blob_url,
        "ASSAY_PUBLIC_URL": made.url,
        "ASSAY_SECRET_KEYS": "browser-tests",
    }
    supervisor = Supervisor(environment, folder)
    child = supervisor.start("api", "api", "--host", "127.0.0.1", "--port", str(port))
    wait_until(lambda: answers(made.url), child.process, supervisor.log("api"), seconds=90)
    yield made
    supervisor.stop()


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, admin: Engine, template: str) -> Iterator[str]:
    """A new one of the name that the API was started with; it finds its connections broken and makes others."""
    with empty_database(admin, template, DATABASE):
        yield postgres.url(DATABASE)


@pytest.fixture
def dashboard(served: Served, sessions: Sessions, platform: Platform, browser: Browser) -> Iterator[Dashboard]:
    """The API with a database in which there are a platform and two reviewers; afterwards every page is closed."""
    policy(sessions, platform)
    reviewer(sessions, platform, role=Role.ADMIN, email=EMAIL)
    reviewer(sessions, platform, email=SECOND_EMAIL)
    yield Dashboard(served.url, sessions, platform, served.blob_url)
    for context in browser.contexts:
        context.close()


def answers(url: str) -> bool:
    """Whether the API is up."""
    try:
        return httpx.get(f"{url}/livez", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium a module: Playwright keeps an event loop running, beside which no asynchronous test could run."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=LAUNCH)
        yield made
        made.close()


@dataclass(slots=True)
class Complaints:
    """What a page should never give cause for."""

    errors: list[str]
    foreign: list[str]

    def none(self) -> bool:
        """Whether there were none."""
        return not self.errors and not self.foreign


def watched(page: Page, url: str) -> Complaints:
    """Note console errors, uncaught exceptions, and requests to any other host."""
    found = Complaints([], [])

    def request(asked: Request) -> None:
        if not asked.url.startswith((url, "blob:")):
            found.foreign.append(asked.url)

    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("request", request)
    return found


def sign_in(page: Page, url: str, email: str = EMAIL, target: str = "/") -> None:
    """By keyboard, through the form."""
    page.goto(url + target)
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(url + target)
