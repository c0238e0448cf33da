"""The desk in a browser: the next image is there already, keys are the reviewer's own, and nothing is lost."""

import random
from pathlib import Path
from uuid import UUID

from click.testing import CliRunner
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, select

from screening import jobs, reviews
from screening.commands.admin import admin
from screening.decisions import Choice
from screening.ids import Prefix, encode
from screening.tables import AuditEntry, Decision, Event, Provenance, Review, ReviewState, Screening
from tests.browser.conftest import Dashboard, sign_in, watched
from tests.browser.test_reviewing import decided, desk, eventually, shown, until_another
from tests.reviewing import actor, decide


def page_of(review_id: UUID) -> str:
    return f"/reviews/{encode(Prefix.REVIEW, review_id)}"


def fetched_ahead(page: Page) -> None:
    """Wait until the next item's picture and masks are here."""
    page.wait_for_selector("#desk[data-ahead^='rev_']")


def test_the_next_image_is_fetched_ahead_and_shown_without_asking_for_it(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(4, rng)
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    desk(page, dashboard)
    for _ in range(3):
        fetched_ahead(page)
        before, ahead = shown(page), page.locator("#desk").get_attribute("data-ahead")
        asked.clear()
        page.keyboard.press("f")
        page.keyboard.press("1")
        until_another(page, before)
        assert shown(page) == ahead
        assert page.locator("img.picture").evaluate("e => e.complete && e.naturalWidth > 0")
        assert [url for url in asked if f"/v1/reviews/{ahead}/" in url] == []


def test_what_was_fetched_ahead_goes_back_when_the_page_is_left(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(3, rng)
    page = browser.new_page()
    desk(page, dashboard)
    fetched_ahead(page)
    page.goto(dashboard.url)

    def claimed() -> int:
        with dashboard.sessions() as session:
            return session.scalar(select(func.count()).where(Review.state == ReviewState.CLAIMED)) or 0

    eventually(lambda: claimed() == 1)
    expect(page.get_by_role("heading", name="In your hands")).to_be_visible()


def test_who_comes_back_finds_what_they_held(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    held = shown(page)
    page.goto(dashboard.url)
    page.goto(f"{dashboard.url}/review")
    page.wait_for_selector(f"#desk[data-ready='{held}']")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#nothing:not([hidden])")
    assert decided(dashboard) == 1


def test_an_empty_desk_notices_what_comes(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    page = browser.new_page()
    page.clock.install()
    sign_in(page, dashboard.url, target="/review")
    page.wait_for_selector("#nothing:not([hidden])")
    [review_id] = dashboard.waiting(1, rng)
    page.clock.fast_forward(11_000)
    page.wait_for_selector(f"#desk[data-ready='{encode(Prefix.REVIEW, review_id)}']")


def test_keys_can_be_given_away_and_turned_off(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    sign_in(page, dashboard.url, target="/settings")
    page.get_by_label("Authentic", exact=True).press("g")
    page.get_by_label("Skip", exact=True).press("Backspace")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{dashboard.url}/review")
    page.wait_for_selector("#desk[data-ready]")
    for dead in ("a", "s"):
        page.keyboard.press(dead)
        assert page.locator("#desk").get_attribute("data-chosen") == ""
        assert not page.locator("#skip-dialog").is_visible()
    page.keyboard.press("g")
    assert page.locator("#desk").get_attribute("data-chosen") == "authentic"
    expect(page.get_by_role("button", name="Authentic g")).to_be_visible()
    page.goto(f"{dashboard.url}/settings")
    page.get_by_label("Use keys").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    page.goto(f"{dashboard.url}/review")
    page.wait_for_selector("#desk[data-ready]")
    for key in "gfw?1 ":
        page.keyboard.press(key)
    assert page.locator("#desk").get_attribute("data-chosen") == ""
    assert not page.locator("#help").is_visible()
    page.get_by_role("button", name="Fake").click()
    assert page.locator("#desk").get_attribute("data-chosen") == "fake"


def test_one_key_twice_is_refused_in_words(dashboard: Dashboard, browser: Browser) -> None:
    page = browser.new_page()
    sign_in(page, dashboard.url, target="/settings")
    page.get_by_label("Authentic", exact=True).press("f")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("used twice: f")).to_be_visible()


def test_every_key_of_the_help_does_what_it_says(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    region = {"area_fraction": 0.1, "mean": 0.9, "max": 0.99}
    regions = [{"bbox": [0, 0, 60, 60], **region}, {"bbox": [100, 100, 50, 50], **region}]
    dashboard.waiting(1, rng, regions=regions)
    page = browser.new_page()
    complaints = watched(page, dashboard.url)
    desk(page, dashboard)
    page.wait_for_selector("canvas.layer:not([hidden])")
    layer = page.locator("canvas.layer")
    opacity = "e => Number(getComputedStyle(e).opacity)"
    for key, name in (("1", "Contour"), ("2", "Fill"), ("3", "Heat")):
        page.keyboard.press(key)
        expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    before = layer.evaluate(opacity)
    page.keyboard.press("[")
    assert layer.evaluate(opacity) < before
    page.keyboard.press("]")
    assert layer.evaluate(opacity) == before
    page.keyboard.down("m")
    expect(layer).to_have_css("visibility", "hidden")
    page.keyboard.up("m")
    expect(layer).to_have_css("visibility", "visible")
    place = page.locator(".frame").bounding_box()
    for key, text_ in (("j", "Region 1 of 2"), ("j", "Region 2 of 2"), ("k", "Region 1 of 2")):
        page.keyboard.press(key)
        expect(page.locator("#position")).to_contain_text(text_)
    assert page.locator(".frame").bounding_box() == place  # nothing moves that the reviewer did not move
    page.keyboard.press("z")
    expect(page.locator("#loupe")).to_be_visible()
    page.wait_for_function("() => document.querySelector('#loupe [data-of=ela]').width > 0")
    page.keyboard.press("z")
    expect(page.locator("#loupe")).to_be_hidden()
    for key, name in (("b", "Brush"), ("x", "Eraser")):
        page.keyboard.press(key)
        expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("x")
    page.keyboard.press("w")
    expect(page.locator("#mask-wrong")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.get_by_role("dialog").get_by_role("button", name="Skip", exact=True).click()
    page.wait_for_selector("#nothing:not([hidden])")
    assert complaints.none(), complaints


def test_who_holds_an_erased_image_is_told_and_goes_on(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    desk(page, dashboard)
    review_id = shown(page)
    with dashboard.sessions.begin() as session:
        jobs.erase(session, session.scalars(select(Screening)).one())
    page.keyboard.press("f")
    page.keyboard.press("1")
    expect(page.locator("#toast")).to_contain_text("The platform erased this image")
    page.wait_for_selector("#nothing:not([hidden])")
    page.goto(f"{dashboard.url}/reviews/{review_id}")
    expect(page.locator("#standing")).to_contain_text("The platform erased this image")
    expect(page.get_by_role("button", name="Fake")).to_be_hidden()


def test_what_a_colleague_holds_can_be_looked_at_and_not_decided(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    [review_id] = dashboard.waiting(1, rng)
    with dashboard.sessions.begin() as session:
        reviews.claim_this(session, actor(dashboard.platform), review_id)
    page = browser.new_page()
    sign_in(page, dashboard.url, target=page_of(review_id))
    page.wait_for_selector("#desk[data-ready]")
    expect(page.locator("#standing")).to_contain_text("A colleague has this image.")
    expect(page.locator("img.picture")).to_be_visible()
    page.keyboard.press("f")
    assert page.locator("#desk").get_attribute("data-chosen") == ""
    expect(page.get_by_role("button", name="Fake")).to_be_hidden()


def test_a_lead_reverses_a_decision_and_takes_its_evidence_home(
    dashboard: Dashboard, browser: Browser, rng: random.Random, tmp_path: Path
) -> None:
    [review_id] = dashboard.waiting(1, rng)
    decide(dashboard.sessions, actor(dashboard.platform), review_id, Choice("fake", note="as seen"))
    page = browser.new_page()
    complaints = watched(page, dashboard.url)
    sign_in(page, dashboard.url, target=page_of(review_id))
    page.wait_for_selector("#desk[data-ready]")
    expect(page.locator("#standing")).to_contain_text("Decided: fake, block")
    page.get_by_role("button", name="Reverse").click()
    page.get_by_label("Why? For the record").fill("The original came by post.")
    page.get_by_role("dialog").get_by_role("button", name="Reverse", exact=True).click()
    expect(page.locator("#standing")).to_contain_text("Decided: authentic, allow (reversed)")
    with dashboard.sessions() as session:
        assert session.scalars(select(Event.type).where(Event.type == "decision.reversed")).all() != []
        assert {d.verdict for d in session.scalars(select(Decision))} == {"fake", "authentic"}
    with page.expect_download() as started:
        page.get_by_role("link", name="Evidence pack").click()
    pack = tmp_path / "pack.zip"
    started.value.save_as(pack)
    result = CliRunner().invoke(admin, ["verify-evidence", str(pack)])
    assert (result.exit_code, "is whole" in result.output) == (0, True), result.output
    assert complaints.none(), complaints


def test_the_position_is_shown_to_who_asks_and_the_asking_is_recorded(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    [review_id] = dashboard.waiting(1, rng)
    with dashboard.sessions.begin() as session:
        said = {"c2pa": {"state": "absent", "generator": None, "claims": []}, "exif": [],
                "gps": {"latitude": -33.86, "longitude": 151.2}}  # fmt: skip
        review = session.get_one(Review, review_id)
        session.add(Provenance(screening_id=review.screening_id, platform_id=review.platform_id, **said))
    page = browser.new_page()
    desk(page, dashboard)
    assert "151.2" not in page.content()
    page.get_by_role("button", name="Show (is recorded)").click()
    expect(page.locator("#panel")).to_contain_text("-33.86000, 151.20000")
    with dashboard.sessions() as session:
        assert "provenance.position_shown" in session.scalars(select(AuditEntry.action)).all()


def test_an_image_that_cannot_be_shown_says_so_and_can_be_passed_on(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page()
    page.route("**/v1/reviews/*/image", lambda route: route.fulfill(status=200, body=b"no image"))
    desk(page, dashboard)
    expect(page.locator("#stage .missing")).to_contain_text("This image cannot be shown.")
    page.keyboard.press("s")
    page.locator("#skip-dialog select").select_option("technical")
    page.get_by_role("dialog").get_by_role("button", name="Skip", exact=True).click()
    page.wait_for_selector("#nothing:not([hidden])")


def test_a_tablet_decides_by_touch(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(1, rng)
    context = browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True)
    page = context.new_page()
    desk(page, dashboard)
    for name in ("Fake", "No reason"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8
        page.get_by_role("button", name=name).tap()
    page.wait_for_selector("#nothing:not([hidden])")
    assert decided(dashboard) == 1
    context.close()
