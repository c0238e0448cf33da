"""What does a browser test need? A real server, a real Chromium, and images that wait before people."""

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from sqlalchemy.orm import Session, sessionmaker

from screening.actors import Role
from screening.embedded.process import free_port, wait_until
from screening.stack.supervisor import Supervisor
from screening.tables import Platform
from tests import pictures
from tests.browsing import PASSWORD, reviewer
from tests.reviewing import policy, screened, with_files

Sessions = sessionmaker[Session]
LAUNCH = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
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


@pytest.fixture
def dashboard(database_url: str, sessions: Sessions, platform: Platform, tmp_path: Path) -> Iterator[Dashboard]:
    """`assay api` as a process, without Redis: reviewing needs none."""
    port = free_port()
    blob_url = (tmp_path / "blobs").as_uri()
    environment = {
        "ASSAY_DATABASE_URL": database_url,
        "ASSAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "ASSAY_BLOB_URL": blob_url,
        "ASSAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "ASSAY_SECRET_KEYS": "browser-tests",
    }
    policy(sessions, platform)
    reviewer(sessions, platform, role=Role.ADMIN, email=EMAIL)
    reviewer(sessions, platform, email=SECOND_EMAIL)
    supervisor = Supervisor(environment, tmp_path)
    child = supervisor.start("api", "api", "--host", "127.0.0.1", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(url), child.process, supervisor.log("api"), seconds=90)
    yield Dashboard(url, sessions, platform, blob_url)
    supervisor.stop()


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
