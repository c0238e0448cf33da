"""The bytes of a screening: image, mask, heat map, overlay."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api import files, overlay, screenings
from api.auth import Admission
from api.dependencies import Reader, Using
from api.problems import NOT_READY, Problem
from api.schemas.screening import file_response
from screening.tables import Finding, Image, Screening

router = APIRouter(tags=["screenings"])
URL = "/v1/screenings/{screening_id}"


@router.get(URL + "/image", response_class=Response, responses=file_response("image/*"))
async def get_image(screening_id: str, request: Request, caller: Reader, services: Using) -> Response:
    """The uploaded or fetched file, as it came."""
    image = await services.database.run(_image, caller, screening_id)
    return await files.serve(
        request, services.blobs, image.blob_key, etag=image.sha256.hex(), media_type=f"image/{image.format}",
        size=image.size,
    )  # fmt: skip


@router.get(URL + "/mask", response_class=Response, responses=file_response("image/png"))
async def get_mask(screening_id: str, request: Request, caller: Reader, services: Using) -> Response:
    """An 8-bit PNG in the image's upright pixels, 255 = manipulated."""
    finding = await services.database.run(_finding, caller, screening_id)
    etag = finding.mask_sha256.hex()
    return await files.serve(request, services.blobs, finding.mask_key, etag=etag, media_type="image/png")


@router.get(URL + "/heatmap", response_class=Response, responses=file_response("image/png"))
async def get_heatmap(screening_id: str, request: Request, caller: Reader, services: Using) -> Response:
    """An 8-bit PNG, 0..255 = 0..1."""
    finding = await services.database.run(_finding, caller, screening_id)
    etag = finding.heatmap_sha256.hex()
    return await files.serve(request, services.blobs, finding.heatmap_key, etag=etag, media_type="image/png")


@router.get(URL + "/overlay", response_class=Response, responses=file_response("image/jpeg"))
async def get_overlay(screening_id: str, request: Request, caller: Reader, services: Using) -> Response:
    """The image with the heat map over it and the mask outlined: a JPEG of at most 2,048 pixels a side."""
    image, finding = await services.database.run(_both, caller, screening_id)
    return await overlay.serve(request, services, image, finding)


def _image(session: Session, caller: Admission, id: str) -> Image:
    return _present(screenings.load(session, caller.platform.id, id))


def _present(row: Screening) -> Image:
    if row.image is None:
        raise Problem(NOT_READY, "The image has not been fetched, or could not be.")
    return row.image


def _finding(session: Session, caller: Admission, id: str) -> Finding:
    return _judged(screenings.load(session, caller.platform.id, id))


def _judged(row: Screening) -> Finding:
    if row.finding is None:
        raise Problem(NOT_READY, "The screening has no finding yet, or failed.")
    return row.finding


def _both(session: Session, caller: Admission, id: str) -> tuple[Image, Finding]:
    row = screenings.load(session, caller.platform.id, id)
    return _present(row), _judged(row)
