"""A person decides in seconds, without a mouse."""

import random
import time
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, select

from screening import decisions
from screening.ids import Prefix, decode, encode
from screening.tables import Correction, Decision, Exposure, Review, ReviewState
from tests.browser.conftest import SECOND_EMAIL, Dashboard, sign_in, watched
from tests.reviewing import policy, settle


def desk(page: Page, dashboard: Dashboard, email: str | None = None) -> None:
    """Sign in and open the desk; returns when the first picture is there."""
    sign_in(page, dashboard.url, target="/review", **({"email": email} if email else {}))
    page.wait_for_selector("#desk[data-ready]")


def shown(page: Page) -> str:
    """The id of the review on the desk."""
    return page.locator("#desk").get_attribute("data-ready") or ""


def until_another(page: Page, before: str) -> None:
    """Wait for the next review, or for the end of the queue."""
    page.wait_for_function(
        "before => !document.querySelector('#nothing').hidden ||"
        " document.querySelector('#desk').dataset.ready !== before",
        arg=before,
    )


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Fail unless it holds within the time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)


def decided(dashboard: Dashboard) -> int:
    """How many decisions stand, settled or within their window."""
    with dashboard.sessions() as session:
        return session.scalar(select(func.count()).select_from(Decision).where(Decision.undone_at.is_(None))) or 0


def test_thirty_images_are_decided_with_two_keys_each(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(30, rng)
    page = browser.new_page()
    complaints = watched(page, dashboard.url)
    desk(page, dashboard)
    keys = 0
    while not page.locator("#nothing").is_visible():
        before = shown(page)
        for key in (rng.choice("fa"), "1"):
            page.keyboard.press(key)
            keys += 1
        until_another(page, before)
    assert decided(dashboard) == 30
    assert keys <= 4 * 30
    assert complaints.none(), complaints


def test_undo_brings_the_image_back_and_takes_the_decision_away(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(3, rng)
    page = browser.new_page()
    desk(page, dashboard)
    first = shown(page)
    page.keyboard.press("f")
    page.keyboard.press("Enter")
    until_another(page, first)
    page.keyboard.press("u")
    page.wait_for_function("id => document.querySelector('#desk').dataset.ready === id", arg=first)
    assert decided(dashboard) == 0
    page.keyboard.press("a")
    page.keyboard.press("1")
    until_another(page, first)
    with dashboard.sessions() as session:
        standing = session.scalars(select(Decision).where(Decision.undone_at.is_(None))).one()
    assert standing.verdict == "authentic"


def test_a_tab_closed_within_the_undo_window_commits_its_decision(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    [review_id] = dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    page.keyboard.press("f")
    page.keyboard.press("1")
    page.wait_for_selector("#nothing:not([hidden])")
    page.close()

    def settled() -> bool:
        with dashboard.sessions.begin() as session:
            decisions.tend(session)
            return session.get_one(Review, review_id).state == ReviewState.DECIDED

    assert not settled()
    settle(dashboard.sessions)
    assert settled()


def test_a_mask_is_corrected_with_the_brush_and_kept_as_a_version(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    complaints = watched(page, dashboard.url)
    desk(page, dashboard)
    page.wait_for_selector("canvas.layer:not([hidden])")
    page.keyboard.press("b")
    box = page.locator("#brush").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5, steps=8)
    page.mouse.up()
    page.keyboard.press("w")
    page.keyboard.press("f")
    page.keyboard.press("1")
    page.wait_for_selector("#nothing:not([hidden])")
    with dashboard.sessions() as session:
        correction = session.scalars(select(Correction)).one()
        decision = session.scalars(select(Decision)).one()
    assert 0.5 < correction.iou < 1.0
    assert decision.mask_feedback == "wrong"
    assert complaints.none(), complaints


def test_the_image_is_blurred_until_space_is_held_and_the_time_is_counted(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    page.wait_for_selector("canvas.layer:not([hidden])")
    assert "blur" in page.locator("img.picture").evaluate("e => getComputedStyle(e).filter")
    page.keyboard.down(" ")
    expect(page.locator(".frame")).to_have_class("frame grey revealed")
    page.wait_for_timeout(300)
    page.keyboard.up(" ")
    expect(page.locator(".frame")).to_have_class("frame grey")

    def counted() -> bool:
        with dashboard.sessions() as session:
            return (session.scalar(select(func.sum(Exposure.seconds))) or 0) > 0

    eventually(counted)


def test_keys_are_dead_while_somebody_types(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    page.locator("#note").fill("")
    page.locator("#note").press_sequentially("fast as a fake 1")
    assert page.locator("#desk").get_attribute("data-chosen") == ""
    assert page.locator("#note").input_value() == "fast as a fake 1"
    assert decided(dashboard) == 0


def test_an_escalated_image_leaves_the_queue(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    [review_id] = dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    page.keyboard.press("e")
    page.get_by_label("What should they know?").fill("Looks staged.")
    page.get_by_role("button", name="Escalate", exact=True).click()
    page.wait_for_selector("#toast:not([hidden])")

    def escalated() -> bool:
        with dashboard.sessions() as session:
            return session.get_one(Review, review_id).lead_only

    eventually(escalated)


def test_the_second_reviewer_sees_nothing_of_the_first_decision(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    policy(dashboard.sessions, dashboard.platform, {"second_review": {"verdicts": ["fake"], "actions": ["block"]}})
    [review_id] = dashboard.waiting(1, rng)
    first = browser.new_page()
    desk(first, dashboard)
    first.locator("#note").fill("the first one's secret note")
    first.locator("#desk").click(position={"x": 5, "y": 300})
    first.keyboard.press("f")
    first.keyboard.press("1")
    first.wait_for_selector("#nothing:not([hidden])")
    settle(dashboard.sessions)
    with dashboard.sessions() as session:
        assert session.get_one(Review, review_id).state == ReviewState.PENDING
    second = browser.new_context().new_page()
    read: list[str] = []
    second.on("response", lambda answer: read.append(answer.text()) if "json" in _kind(answer.headers) else None)
    desk(second, dashboard, SECOND_EMAIL)
    assert decode(Prefix.REVIEW, shown(second)) == review_id
    second.goto(f"{dashboard.url}/v1/reviews/{encode(Prefix.REVIEW, review_id)}")
    read.append(second.content())
    assert read
    assert not any("secret note" in text for text in read)


def _kind(headers: dict[str, str]) -> str:
    return headers.get("content-type", "")
