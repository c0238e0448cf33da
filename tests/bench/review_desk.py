"""How long does a reviewer wait between the key that decides and the next image before them?

A real Chromium, an API process and photos of a telephone's size. Timed in the page: from the keydown of the last key to
the frame that shows the next image with its mask. Beside it the same without anything fetched ahead.
"""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sqlalchemy.orm import Session, sessionmaker

from screening import migrate, platforms
from screening.actors import Role
from screening.database import sync_engine
from screening.embedded import EmbeddedPostgres
from screening.embedded.process import free_port, wait_until
from screening.stack.supervisor import Supervisor
from tests.bench import results
from tests.browser.conftest import EMAIL, LAUNCH, answers, chromium, sign_in
from tests.browsing import reviewer
from tests.reviewing import policy, screened, with_files

# Noted in the page, so that no round trip to the driver is in it: the frame after the one in which the item is ready.
NOTE = """() => {
    window.waits = [];
    let since = 0;
    addEventListener("keydown", (event) => { if (event.key === "1") since = performance.now(); }, true);
    new MutationObserver(() => requestAnimationFrame(() => requestAnimationFrame(() => {
        if (since) window.waits.push(performance.now() - since);
        since = 0;
    }))).observe(document.querySelector("#desk"), { attributes: true, attributeFilter: ["data-ready"] });
}"""


def photo(chance: np.random.Generator, width: int, height: int) -> bytes:
    """A JPEG with about as much detail as a photograph."""
    rough = chance.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    target = BytesIO()
    image.save(target, "JPEG", quality=92)
    return target.getvalue()


@contextmanager
def desk(items: int, size: tuple[int, int]) -> Iterator[str]:
    """The address of an API with `items` images before people."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-", dir="/tmp") as folder:  # see EmbeddedPostgres: a short path
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres", "secret", fsync=False)
        server.start()
        supervisor: Supervisor | None = None
        try:
            database, blobs, port = server.create_database("desk"), (Path(folder) / "blobs").as_uri(), free_port()
            _fill(database, blobs, items, size)
            url = f"http://127.0.0.1:{port}"
            environment = {
                "ASSAY_DATABASE_URL": database,
                "ASSAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # nobody listens: reviewing needs none
                "ASSAY_BLOB_URL": blobs,
                "ASSAY_PUBLIC_URL": url,
                "ASSAY_SECRET_KEYS": "bench",
            }
            supervisor = Supervisor(environment, Path(folder))
            child = supervisor.start("api", "api", "--host", "127.0.0.1", "--port", str(port))
            wait_until(lambda: answers(url), child.process, supervisor.log("api"), seconds=90)
            yield url
        finally:
            if supervisor is not None:
                supervisor.stop()
            server.stop()


def _fill(database: str, blobs: str, items: int, size: tuple[int, int]) -> None:
    engine = sync_engine(database)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    sessions: sessionmaker[Session] = sessionmaker(engine, expire_on_commit=False)
    with sessions.begin() as session:
        platform = platforms.create(session, "bench")
    policy(sessions, platform)
    reviewer(sessions, platform, role=Role.ADMIN, email=EMAIL)
    chance, rng = np.random.default_rng(0), random.Random(0)
    for _ in range(items):
        review_id = screened(sessions, platform, score=rng.random())
        with_files(sessions, blobs, review_id, photo(chance, *size))
    engine.dispose()


def waits(page: Page, rounds: int, *, ahead: bool) -> list[float]:
    """Milliseconds from the deciding key to the next image, with it fetched ahead or not."""
    page.evaluate(NOTE)
    for number in range(rounds):
        before = page.locator("#desk").get_attribute("data-ready")
        if ahead:
            page.wait_for_selector("#desk[data-ahead^='rev_']")
        page.keyboard.press("f")
        page.keyboard.press("1")
        page.wait_for_function("b => document.querySelector('#desk').dataset.ready !== b", arg=before)
        page.wait_for_function("n => window.waits.length > n", arg=number)
    found: list[float] = page.evaluate("window.waits")
    return found


@click.command()
@click.option("--rounds", type=int, default=30, show_default=True)
@click.option("--width", type=int, default=4032, show_default=True)
@click.option("--height", type=int, default=3024, show_default=True)
def command(rounds: int, width: int, height: int) -> None:
    """From the deciding key to the next image painted, fetched ahead and not."""
    with desk(2 * rounds + 3, (width, height)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=LAUNCH)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        sign_in(page, url, target="/review")
        page.wait_for_selector("#desk[data-ready]")
        with_ahead = waits(page, rounds, ahead=True)
        without = waits(page, rounds, ahead=False)
        browser.close()
    report: dict[str, Any] = {
        name: {"p50_ms": round(median(times), 1), "p95_ms": round(quantiles(times, n=20)[-1], 1)}
        for name, times in (("fetched_ahead", with_ahead), ("at_once", without))
    }
    rows = [(name.replace("_", " "), f"{t['p50_ms']:.0f} ms", f"{t['p95_ms']:.0f} ms") for name, t in report.items()]
    results.show(f"Key to next image, {width} x {height}", ("", "p50", "p95"), rows)
    results.save("review-desk", {**report, "rounds": rounds, "width": width, "height": height})
