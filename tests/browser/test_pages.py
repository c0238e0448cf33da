"""Every page can be used by everybody, harms nobody, and asks nothing of another host."""

import random
from pathlib import Path

from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from screening import audit, decisions, deliveries, endpoints, reviews
from screening.decisions import Choice
from screening.ids import Prefix, encode
from screening.tables import Endpoint, Platform, Provenance, Review, Reviewer, Screening, Submission
from screening.webhook_secrets import SecretBox
from tests.browser.conftest import Dashboard, sign_in, watched
from tests.reviewing import actor, decide, policy, settle

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
PAGES = ("/", "/review", "/screenings", "/quality", "/audit", "/policy", "/webhooks", "/settings")
SCRIPT = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"


def violations(page: Page) -> list[str]:
    """What axe-core finds of serious or critical weight, WCAG 2.2 A and AA."""
    # Through the debugger's own door: the page's policy rightly lets no script in.
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    return [
        f"{item['id']}: {node['target']} {node.get('failureSummary', '')}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


def test_axe_finds_no_serious_violation_on_any_page_in_either_theme(
    dashboard: Dashboard, browser: Browser, rng: random.Random
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
    further = (f"/screenings/{screening}", f"/reviews/{encode(Prefix.REVIEW, review_id)}/cluster", "/policy/versions/1",
               _endpoint(dashboard))  # fmt: skip
    _decided(dashboard, rng)  # so that the plots and the trail have something to show
    for path in (*PAGES, *further):
        page.goto(dashboard.url + path, wait_until="networkidle")
        for theme in ("dark", "light"):
            page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            found[f"{path} {theme}"] = violations(page)
    assert {path: items for path, items in found.items() if items} == {}
    assert complaints.none(), complaints


def _decided(dashboard: Dashboard, rng: random.Random) -> None:
    who = actor(dashboard.platform)
    for review_id in dashboard.waiting(4, rng):
        decide(dashboard.sessions, who, review_id, Choice(rng.choice(["fake", "authentic"])), exposed=2.5)


def _endpoint(dashboard: Dashboard) -> str:
    with dashboard.sessions.begin() as session:
        made, _ = endpoints.create(
            session, SecretBox(["browser-tests"]), dashboard.platform.id, "https://example.com/x"
        )
        deliveries.send_test(session, made)
        return f"/webhooks/{encode(Prefix.ENDPOINT, made.id)}"


SAID = {
    "c2pa": {"state": "untrusted", "generator": SCRIPT, "signer": SCRIPT, "sources": [],
             "claims": [{"label": SCRIPT, "text": SCRIPT}]},
    "exif": [{"name": SCRIPT, "value": SCRIPT}], "gps": None, "jpeg": None, "thumbnail": None,
    "conflicts": [SCRIPT],
}  # fmt: skip


def test_whatever_was_stored_is_shown_as_text_on_every_page(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    """Names, notes, metadata, file names, what a file says of itself, what a policy says, whom it is audited about."""
    content = {"text": SCRIPT, "reasons": [{"code": "spliced", "label": SCRIPT}]}
    policy(dashboard.sessions, dashboard.platform, content)
    [review_id, other] = dashboard.waiting(2, rng)
    who = actor(dashboard.platform)
    with dashboard.sessions.begin() as session:
        session.get_one(Platform, dashboard.platform.id).name = SCRIPT
        for person in session.scalars(select(Reviewer)):
            person.name = SCRIPT
        screening_id = session.get_one(Review, review_id).screening_id
        session.get_one(Screening, screening_id).client_ref = SCRIPT
        sent = session.get_one(Submission, screening_id)
        sent.details, sent.filename, sent.source = {SCRIPT: SCRIPT}, SCRIPT, {"url": f"https://example.com/{SCRIPT}"}
        session.add(Provenance(screening_id=screening_id, platform_id=dashboard.platform.id, **SAID))
        held = reviews.claim_this(session, who, other)
        decisions.decide(session, who, other, reviews.token(held), Choice("fake", note=SCRIPT))
        audit.append(session, actor=SCRIPT, action="policy.put", subject=SCRIPT, platform_id=dashboard.platform.id,
                     details={SCRIPT: SCRIPT})  # fmt: skip
    settle(dashboard.sessions)
    listener = _endpoint(dashboard)
    with dashboard.sessions.begin() as session:
        session.scalars(select(Endpoint)).one().description = SCRIPT
        session.scalars(select(Endpoint)).one().disabled_reason = SCRIPT
        session.scalars(select(Endpoint)).one().enabled = False
    page = browser.new_page()
    complaints = watched(page, dashboard.url)
    sign_in(page, dashboard.url)
    own = f"/screenings/{encode(Prefix.SCREENING, screening_id)}"
    mine, decided = (f"/reviews/{encode(Prefix.REVIEW, id)}" for id in (review_id, other))
    shown = 0
    for path in (*PAGES, own, mine, decided, f"{mine}/cluster", "/policy/versions/1", listener):
        page.goto(dashboard.url + path, wait_until="networkidle")
        assert page.evaluate("window.harmed") is None, path
        assert page.locator("script:not([src]):not([type='application/json'])").count() == 0, path
        shown += "onerror" in page.locator("body").inner_text()
    assert shown >= 10  # it was there to be seen
    page.goto(dashboard.url + mine, wait_until="networkidle")
    page.keyboard.press("f")
    assert "onerror" in page.locator("#reason-list").inner_text()
    assert complaints.none(), complaints


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


SIZES = [(1280, 720), (1440, 900), (1024, 768), (820, 1180)]


def test_the_pages_fit_a_laptop_and_a_tablet(dashboard: Dashboard, browser: Browser, rng: random.Random) -> None:
    dashboard.waiting(2, rng)
    _decided(dashboard, rng)
    listener = _endpoint(dashboard)
    page = browser.new_page()
    sign_in(page, dashboard.url)
    for path in (*PAGES, listener):
        page.goto(dashboard.url + path, wait_until="networkidle")
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, (path, width)
    page.goto(f"{dashboard.url}/review", wait_until="networkidle")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for name in ("Fake", "Authentic", "Escalate", "Skip", "Reveal", "Brush"):
            expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)
        expect(page.locator(".frame")).to_be_in_viewport(ratio=0.9)


def test_colours_and_motion_are_the_reviewers_to_choose(dashboard: Dashboard, browser: Browser) -> None:
    page = browser.new_page(color_scheme="light", reduced_motion="no-preference")
    sign_in(page, dashboard.url, target="/settings")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 21, 23)"
    page.get_by_label("Colours").select_option("system")
    page.get_by_label("Motion").select_option("never move anything")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    for path in ("/settings", "/", "/review"):
        page.goto(dashboard.url + path)
        assert page.evaluate(ground) == "rgb(243, 244, 245)"
        quick = "getComputedStyle(document.documentElement).getPropertyValue('--quick')"
        assert page.evaluate(quick).strip() in ("0ms", "0s")


def test_nothing_moves_for_who_asked_their_system_for_less_motion(
    dashboard: Dashboard, browser: Browser, rng: random.Random
) -> None:
    dashboard.waiting(1, rng)
    page = browser.new_page(reduced_motion="reduce")
    sign_in(page, dashboard.url, target="/review")
    page.wait_for_selector("#desk[data-ready]")
    moving = """[...document.querySelectorAll("*")].filter((e) => {
        const { transitionDuration, animationName } = getComputedStyle(e);
        return transitionDuration.split(",").some((d) => parseFloat(d) > 0) || animationName !== "none";
    }).length"""
    assert page.evaluate(moving) == 0


def test_what_has_the_focus_shows_it(dashboard: Dashboard, browser: Browser) -> None:
    page = browser.new_page()
    sign_in(page, dashboard.url, target="/settings")
    seen = 0
    for _ in range(30):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.tagName"
        )
        style, tag = outline.split(" ")
        if tag != "BODY":
            seen += 1
            assert style != "none", tag
    assert seen >= 25
