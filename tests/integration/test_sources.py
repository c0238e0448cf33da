"""URL sources through a real worker: they become findings or typed failures, and keep nobody waiting."""

import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from screening import jobs, platforms
from screening.ids import uuid7
from screening.jobs import Sated
from screening.tables import Attempt, Image, Screening
from tests.running_line import RunningLine, picture, wait_for


class Host(BaseHTTPRequestHandler):
    """Serves pictures by name; what is called slow never ends."""

    pictures: dict[str, bytes] = {}  # noqa: RUF012 - filled by each test
    over = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            self.over.wait(120)
            return
        body = self.pictures.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Host.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def submit(line: RunningLine, url: str, platform: UUID | None = None) -> UUID:
    made = jobs.Intake(platform_id=platform or line.platform, screening_id=uuid7(), source={"url": url})
    with line.sessions.begin() as session:
        jobs.enqueue(session, made)
    line.doorbell.ring_screening(made.screening_id)
    return made.screening_id


def row(line: RunningLine, id: UUID) -> Screening:
    with line.sessions() as session:
        return session.get_one(Screening, id)


def test_a_url_becomes_a_finding_about_the_image_behind_it(line: RunningLine, host: str, rng: random.Random) -> None:
    Host.pictures["/cat.jpg"] = picture(rng, 120, 80)
    id = submit(line, f"{host}/cat.jpg")
    line.wait_ended([id])
    line.check([id])
    with line.sessions() as session:
        image = session.scalars(select(Image).where(Image.screening_id == id)).one()
        attempts = session.scalars(select(Attempt).where(Attempt.screening_id == id).order_by(Attempt.attempt)).all()
    assert (image.format, image.width, image.height, image.size) == ("jpeg", 120, 80, len(Host.pictures["/cat.jpg"]))
    assert [(a.outcome, a.detail) for a in attempts] == [("released", "fetched"), ("succeeded", None)]


def test_what_cannot_be_fetched_fails_with_its_reason_and_a_bad_image_with_its_own(
    line: RunningLine, host: str, rng: random.Random
) -> None:
    Host.pictures["/text.jpg"] = b"This is text."
    Host.pictures["/cut.jpg"] = picture(rng, 304, 304)[:-500]
    expected = {
        f"{host}/nothing": "fetch_failed",
        f"{host}/slow": "fetch_failed",
        "http://169.254.169.254/latest/": "fetch_refused",
        f"{host}/text.jpg": "unsupported_format",
        f"{host}/cut.jpg": "undecodable",
    }
    ids = {submit(line, url): code for url, code in expected.items()}
    line.wait_ended(list(ids))
    line.check(list(ids), failed=list(ids))
    assert {id: row(line, id).error_code for id in ids} == ids


def test_slow_sites_of_one_platform_delay_neither_uploads_nor_another_platforms_urls(
    line: RunningLine, host: str, rng: random.Random
) -> None:
    Host.pictures["/dog.jpg"] = picture(rng)
    with line.sessions.begin() as session:
        other = platforms.create(session, f"other-{rng.randrange(10**9)}").id
    slow = [submit(line, f"{host}/slow/{number}") for number in range(12)]
    wait_for("the first slow fetch", lambda: any(row(line, id).attempt for id in slow))
    begin = time.monotonic()
    quick = [*line.accept([picture(rng)]), submit(line, f"{host}/dog.jpg", other)]
    line.wait_ended(quick)
    # Twelve fetches of 3 s, three tries each, two at a time, are 54 s of waiting that the quick ones had no part in.
    assert sum(row(line, id).state == "failed" for id in slow) < len(slow), time.monotonic() - begin
    assert {row(line, id).state for id in quick} == {"succeeded"}
    with line.sessions.begin() as session:
        for id in slow:
            jobs.erase(session, session.get_one(Screening, id))


def test_rows_to_fetch_are_passed_over_while_enough_fetches_are_under_way(
    line: RunningLine, rng: random.Random
) -> None:
    """The claim itself, on a platform that no worker has seen: its rows are never committed."""
    with line.sessions() as session:
        platform = platforms.create(session, f"unseen-{rng.randrange(10**9)}").id
        for number in range(6):
            source = {"url": f"http://127.0.0.1/{number}"}
            jobs.enqueue(session, jobs.Intake(platform_id=platform, screening_id=uuid7(), source=source))
        assert claimed(session, platform, Sated(everyone=True)) == 0
        assert claimed(session, platform, Sated(platforms=[platform])) == 0
        assert claimed(session, platform, Sated(platforms=[uuid7()])) == 6
        session.rollback()


def claimed(session: Session, platform: UUID, sated: Sated) -> int:
    nested = session.begin_nested()
    claims = jobs.claim(session, limit=50, worker="test", lease=timedelta(seconds=60), sated=sated)
    nested.rollback()
    return sum(claim.platform_id == platform for claim in claims)
