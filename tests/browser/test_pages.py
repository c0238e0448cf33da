"""Every page can be used by everybody, harms nobody, and asks nothing of another host."""

import random
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from screening.ids import Prefix, encode
from screening.tables import Review, Submission
from tests.browser.conftest import Dashboard, sign_in, watched

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
PAGES = ("/", "/review", "/screenings", "/policy", "/webhooks", "/settings")
SCRIPT = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"


def violations(page: Page) -> list[str]:
    """What axe-core finds of serious or critical weight, WCAG 2.2 A and AA."""
    # Through the debugger's own door: the page's policy rightly lets no script in.
    page.evaluate(AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    return [
        f"{item['id']}: {node['target']} {node.get('failureSummary', '')}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_serious_violation_on_any_page(
    dashboard: Dashboard, browser: Browser, rng: random.Random, theme: str
) -> None:
    [review_id, *_] = dashboard.waiting(3, rng)
    # Reduced motion, or the contrast would be measured in the middle of a colour's transition.
    page = browser.new_page(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    complaints = watched(page, dashboard.url)
    page.goto(f"{dashboard.url}/signin")
    found = {"/signin": violations(page)}
    sign_in(page, dashboard.url)
    with dashboard.sessions() as session:
        screening = encode(Prefix.SCREENING, session.get_one(Review, review_id).screening_id)
    for path in (*PAGES, f"/screenings/{screening}", f"/reviews/{encode(Prefix.REVIEW, review_id)}/cluster"):
        page.goto(dashboard.url + path, wait_until="networkidle")
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        found[path] = violations(page)
    assert {path: items for path, items in found.items() if items} == {}
    assert complaints.none(), complaints


def test_what_platforms_send_is_shown_as_text(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    [review_id] = dashboard.waiting(1, rng)
    with dashboard.sessions.begin() as session:
        screening_id = session.get_one(Review, review_id).screening_id
        sent = session.get_one(Submission, screening_id)
        sent.details, sent.filename = {SCRIPT: SCRIPT}, SCRIPT
    page = browser.new_page()
    sign_in(page, dashboard.url)
    for path in ("/review", "/screenings", f"/screenings/{encode(Prefix.SCREENING, screening_id)}"):
        page.goto(dashboard.url + path, wait_until="networkidle")
        assert page.evaluate("window.harmed") is None
    assert "onerror" in page.locator("main").inner_text()


def test_a_form_without_its_token_changes_nothing(dashboard: Dashboard, browser: Browser) -> None:
    page = browser.new_page()
    sign_in(page, dashboard.url)
    for path in ("/sign-out", "/webhooks"):
        answer = page.request.post(dashboard.url + path, form={"url": "https://example.com/hook", "platform": "x"})
        assert answer.status == 403
    page.goto(dashboard.url)
    assert page.locator("h1").inner_text() == "Review queue"


def test_a_stranger_is_sent_to_the_sign_in_page_and_never_to_another_host(
    dashboard: Dashboard, browser: Browser
) -> None:
    page = browser.new_page()
    page.goto(f"{dashboard.url}/policy?x=1")
    assert page.url == f"{dashboard.url}/signin?next=%2Fpolicy%3Fx%3D1"
    sign_in(page, dashboard.url, target="/")
    page.goto(f"{dashboard.url}/signin?next=//example.com")
    assert page.url == f"{dashboard.url}/"


def test_the_pages_fit_a_tablet(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(2, rng)
    page = browser.new_page(viewport={"width": 820, "height": 1180})
    sign_in(page, dashboard.url)
    for path in PAGES:
        page.goto(dashboard.url + path, wait_until="networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
