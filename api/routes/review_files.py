"""The bytes that a reviewer looks at, and the masks that a reviewer draws. Served by this host alone."""

import hashlib
import json
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import drawing, files, renditions
from api.dependencies import Using
from api.problems import ERASED, INVALID, Kind, Problem
from api.reviewer_auth import Acting
from api.routes.reviews import review_of
from screening import case, corrections, reviews
from screening.actors import Actor
from screening.errors import BlobStoreError
from screening.tables import Correction, Finding, Image, Review, Screening

router = APIRouter(tags=["reviews"])

SHOWABLE = frozenset({"jpeg", "png", "webp", "avif", "gif", "bmp"})  # by browsers; TIFF is not
UNFIT = Kind("unfit_correction", INVALID.status, "The corrected mask cannot be used")
UNFIT_DETAIL = "Send a PNG of exactly the mask's width and height, white where the image was manipulated."


def _looked_at(session: Session, actor: Actor, review_id: UUID) -> tuple[Image, Finding]:
    review = reviews.visible(session, actor, review_id)
    if session.get_one(Screening, review.screening_id).erased_at is not None:
        raise Problem(ERASED, "The image of this review has been erased.")
    image = session.scalars(select(Image).where(Image.screening_id == review.screening_id)).one()
    return image, session.get_one(Finding, review.screening_id)


@router.get("/v1/reviews/{review_id}/image")
async def get_image(review_id: str, request: Request, viewer: Acting, services: Using) -> Response:
    """The image as it came; as an upright PNG where browsers cannot show its format."""
    image, finding = await services.database.run(_looked_at, viewer.actor, review_of(review_id))
    if image.format not in SHOWABLE:
        return await renditions.serve(request, services, image, finding, renditions.Kind.UPRIGHT)
    return await files.serve(
        request, services.blobs, image.blob_key, etag=image.sha256.hex(), media_type=f"image/{image.format}",
        size=image.size, through_us=True,
    )  # fmt: skip


@router.get("/v1/reviews/{review_id}/mask")
async def get_mask(review_id: str, request: Request, viewer: Acting, services: Using) -> Response:
    """The model's mask: an 8-bit PNG in upright pixels, 255 = manipulated."""
    _, finding = await services.database.run(_looked_at, viewer.actor, review_of(review_id))
    etag = finding.mask_sha256.hex()
    return await files.serve(
        request, services.blobs, finding.mask_key, etag=etag, media_type="image/png", through_us=True
    )  # fmt: skip


@router.get("/v1/reviews/{review_id}/heatmap")
async def get_heatmap(review_id: str, request: Request, viewer: Acting, services: Using) -> Response:
    """The heat map: an 8-bit PNG, 0..255 = 0..1."""
    _, finding = await services.database.run(_looked_at, viewer.actor, review_of(review_id))
    etag = finding.heatmap_sha256.hex()
    return await files.serve(
        request, services.blobs, finding.heatmap_key, etag=etag, media_type="image/png", through_us=True
    )  # fmt: skip


@router.get("/v1/reviews/{review_id}/ela")
async def get_ela(review_id: str, request: Request, viewer: Acting, services: Using) -> Response:
    """Error levels: how much each pixel changes when the image is saved as JPEG once more."""
    image, finding = await services.database.run(_looked_at, viewer.actor, review_of(review_id))
    return await renditions.serve(request, services, image, finding, renditions.Kind.ELA)


@router.get("/v1/reviews/{review_id}/thumbnail")
async def get_thumbnail(review_id: str, request: Request, viewer: Acting, services: Using) -> Response:
    """A JPEG of at most 256 pixels a side."""
    image, finding = await services.database.run(_looked_at, viewer.actor, review_of(review_id))
    return await renditions.serve(request, services, image, finding, renditions.Kind.THUMBNAIL)


@router.put("/v1/reviews/{review_id}/correction", status_code=201)
async def put_correction(
    review_id: str,
    request: Request,
    viewer: Acting,
    services: Using,
    x_lease_token: Annotated[str, Header(max_length=100)],
) -> Response:
    """Keep a redrawn mask as the next version, with its overlap with the model's."""
    identity = review_of(review_id)
    review, finding = await services.database.run(corrections.begin, viewer.actor, identity, x_lease_token)
    png, iou = await _read(services, finding, await request.body())
    key = corrections.key(review)
    await run_in_threadpool(services.blobs.put, key, png, "image/png")
    try:
        row = await services.database.run(
            corrections.add, viewer.actor, identity, x_lease_token,
            blob_key=key, sha256=hashlib.sha256(png).digest(), iou=iou,
        )  # fmt: skip
    except reviews.LeaseLostError:
        await _forget(services, key)
        raise
    return JSONResponse(case.correction(row, viewer.actor), 201)


async def _read(services: Using, finding: Finding, drawn: bytes) -> tuple[bytes, float]:
    async with drawing.workshop(services, {"mask": finding.mask_key, "correction": drawn}) as folder:
        limit = str(services.settings.max_pixels)
        await drawing.run("correction_reading", folder, [limit], UNFIT, UNFIT_DETAIL)
        return (folder / "out.png").read_bytes(), float(json.loads((folder / "out.json").read_text())["iou"])


async def _forget(services: Using, key: str) -> None:
    try:
        await run_in_threadpool(services.blobs.delete, [key])
    except BlobStoreError:  # it goes with the screening's other files
        return


@router.get("/v1/reviews/{review_id}/corrections/{version}")
async def get_correction(review_id: str, version: int, request: Request, viewer: Acting, services: Using) -> Response:
    """One version of the redrawn mask."""
    row = await services.database.run(_correction, viewer.actor, review_of(review_id), version)
    return await files.serve(
        request, services.blobs, row.blob_key, etag=row.sha256.hex(), media_type="image/png", through_us=True
    )  # fmt: skip


def _correction(session: Session, actor: Actor, review_id: UUID, version: int) -> Correction:
    row = corrections.load(session, actor, review_id, min(max(version, 0), 2**31 - 1))
    review = session.get_one(Review, review_id)
    if session.get_one(Screening, review.screening_id).erased_at is not None:
        raise Problem(ERASED, "The image of this review has been erased.")
    return row
