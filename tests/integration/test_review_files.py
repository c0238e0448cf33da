"""What a reviewer looks at and draws: renditions, and masks put right in versions."""

from collections.abc import AsyncIterator
from io import BytesIO

import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from screening import jobs
from screening.actors import Role
from screening.blobs import image_key, open_store
from screening.ids import Prefix, encode
from screening.settings import Settings
from screening.tables import Platform, Review, Screening
from tests import pictures
from tests.browsing import Browser, browser, reviewer
from tests.reviewing import png, policy, screened, with_files

Sessions = sessionmaker[Session]
SIZE = (64, 48)


@pytest.fixture
async def page(app: FastAPI, sessions: Sessions, platform: Platform) -> AsyncIterator[Browser]:
    policy(sessions, platform)
    person = reviewer(sessions, platform)
    async with browser(app) as made:
        yield await made.enter(sessions, person)


def reviewed(sessions: Sessions, platform: Platform, settings: Settings, image: bytes, format: str = "jpeg") -> str:
    made = screened(sessions, platform)
    with_files(sessions, settings.blob_url, made, image, format)
    return f"/v1/reviews/{encode(Prefix.REVIEW, made)}"


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


async def claimed(page: Browser, path: str) -> dict[str, str]:
    lease = (await page.post(f"{path}/claim")).json()["lease"]
    return {"X-CSRF-Token": page.csrf, "X-Lease-Token": lease["token"], "Content-Type": "image/png"}


async def test_the_page_gets_every_picture_from_this_host(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    content = pictures.jpeg(*SIZE)
    path = reviewed(sessions, platform, settings, content)
    links = (await page.get(path)).json()["links"]
    image = await page.get(links["image"])
    assert (image.content, image.headers["content-type"]) == (content, "image/jpeg")
    assert opened((await page.get(links["mask"])).content).size == SIZE
    assert opened((await page.get(links["ela"])).content).size == SIZE
    thumbnail = await page.get(links["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/jpeg"
    again = await page.get(links["thumbnail"], headers={"If-None-Match": thumbnail.headers["etag"]})
    assert again.status_code == 304
    assert all(link.startswith("/") for link in links.values())


async def test_what_browsers_cannot_show_comes_as_an_upright_png(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    target, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE, (10, 200, 30)).save(target, "TIFF", exif=exif)
    path = reviewed(sessions, platform, settings, target.getvalue(), "tiff")
    answer = await page.get(f"{path}/image")
    assert answer.headers["content-type"] == "image/png"
    assert opened(answer.content).size == (SIZE[1], SIZE[0])


async def test_error_levels_are_high_where_an_image_was_pasted(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    """The base has been saved at this quality before and hardly changes again; the pasted noise does."""
    base = opened(pictures.jpeg(256, 256, quality=90)).convert("RGB")
    noise = Image.effect_noise((64, 64), 120).convert("RGB")
    base.paste(noise, (96, 96))
    path = reviewed(sessions, platform, settings, png(base), "png")
    levels = opened((await page.get(f"{path}/ela")).content).convert("L")
    inside = sum(levels.crop((104, 104, 152, 152)).tobytes()) / 48**2
    outside = sum(levels.crop((0, 0, 64, 64)).tobytes()) / 64**2
    assert inside > 2 * outside


async def test_a_picture_that_cannot_be_drawn_is_an_answer_and_not_an_outage(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    path = reviewed(sessions, platform, settings, pictures.jpeg(*SIZE))
    with sessions() as session:
        review = session.query(Review).one()
    open_store(settings.blob_url).put(
        image_key(review.platform_id, review.screening_id), b"\xff\xd8\xff no picture"
    )  # fmt: skip
    answer = await page.get(f"{path}/thumbnail")
    assert (answer.status_code, answer.json()["code"]) == (500, "rendition_failed")


async def test_corrections_are_versions_with_their_overlap(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    path = reviewed(sessions, platform, settings, pictures.jpeg(*SIZE))
    headers = await claimed(page, path)
    quarter = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    quarter.paste((255, 255, 255, 255), (0, 0, SIZE[0] // 4, SIZE[1]))
    first = await page.send("PUT", f"{path}/correction", content=png(quarter), headers=headers)
    assert (first.status_code, first.json()["version"], first.json()["iou"]) == (201, 1, 0.5), first.text
    second = await page.send("PUT", f"{path}/correction", content=png(Image.new("L", SIZE)), headers=headers)
    assert (second.json()["version"], second.json()["iou"]) == (2, 0.0)
    kept = opened((await page.get(first.json()["mask"])).content)
    assert (kept.mode, kept.size, kept.histogram()[255]) == ("L", SIZE, SIZE[0] // 4 * SIZE[1])
    assert [c["version"] for c in (await page.get(path)).json()["corrections"]] == [1, 2]


@pytest.mark.parametrize("wrong", ["size", "text", "jpeg", "empty"])
async def test_what_is_no_mask_of_this_image_is_refused(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings, wrong: str
) -> None:
    path = reviewed(sessions, platform, settings, pictures.jpeg(*SIZE))
    headers = await claimed(page, path)
    content = {"size": png(Image.new("L", (48, 64))), "text": b"hello", "jpeg": pictures.jpeg(*SIZE), "empty": b""}
    answer = await page.send("PUT", f"{path}/correction", content=content[wrong], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "unfit_correction")
    assert (await page.get(path)).json()["corrections"] == []


async def test_only_the_holder_corrects_and_nobody_else_sees_it_before_the_end(
    app: FastAPI, page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    path = reviewed(sessions, platform, settings, pictures.jpeg(*SIZE))
    headers = await claimed(page, path)
    made = await page.send("PUT", f"{path}/correction", content=png(Image.new("L", SIZE)), headers=headers)
    person = reviewer(sessions, platform, role=Role.ADMIN, email="grace@example.com")
    async with browser(app) as made_by_another:
        other = await made_by_another.enter(sessions, person)
        stolen = {**headers, "X-CSRF-Token": other.csrf}
        refused = await other.send("PUT", f"{path}/correction", content=png(Image.new("L", SIZE)), headers=stolen)
        assert (refused.status_code, refused.json()["code"]) == (409, "lease_lost")
        assert (await other.get(made.json()["mask"])).status_code == 404
        assert (await other.get(path)).json()["corrections"] == []


async def test_of_an_erased_image_nothing_is_shown(
    page: Browser, sessions: Sessions, platform: Platform, settings: Settings
) -> None:
    path = reviewed(sessions, platform, settings, pictures.jpeg(*SIZE))
    with sessions.begin() as session:
        review = session.query(Review).one()
        jobs.erase(session, session.get_one(Screening, review.screening_id))
    for name in ("image", "mask", "heatmap", "ela", "thumbnail"):
        assert (await page.get(f"{path}/{name}")).status_code == 410
