"""How does a person see at a glance what was found? The image with its heat map, drawn once and kept."""

import hashlib

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import drawing, files
from api.problems import Kind
from api.services import Services
from screening import blobs
from screening.tables import Finding, Image, Screening

VERSION = b"1"  # of the drawing: another one is another ETag and another file
NAME = "overlay-1.jpg"
UNDRAWABLE = Kind("overlay_failed", 500, "The overlay could not be drawn")
DETAIL = "This image cannot be drawn. Its mask and heat map are there."


async def serve(request: Request, services: Services, image: Image, finding: Finding) -> Response:
    """The overlay, from the store or drawn now. Raises Problem 500 where it cannot be drawn."""
    etag = hashlib.sha256(VERSION + image.sha256 + finding.mask_sha256 + finding.heatmap_sha256).hexdigest()
    if files.unchanged(request, etag):
        return Response(status_code=304, headers=files.CACHE | {"ETag": f'"{etag}"'})
    key = blobs.derived_key(image.platform_id, image.screening_id, finding.attempt, NAME)
    if not await run_in_threadpool(services.blobs.exists, key):
        await _draw(services, image, finding, key)
    return await files.serve(request, services.blobs, key, etag=etag, media_type="image/jpeg")


async def _draw(services: Services, image: Image, finding: Finding, key: str) -> None:
    inputs = {"image": image.blob_key, "mask": finding.mask_key, "heatmap": finding.heatmap_key}
    async with drawing.workshop(services, inputs) as folder:
        arguments = [NAME, str(services.settings.max_pixels)]
        await drawing.run("overlay_drawing", folder, arguments, UNDRAWABLE, DETAIL)
        await drawing.keep(services, folder / NAME, key, "image/jpeg")
    await drop_if_erased(services, image, key)


async def drop_if_erased(services: Services, image: Image, key: str) -> None:
    """Take away what was drawn while its screening was being erased."""
    if await services.database.run(_erased, image):
        await run_in_threadpool(services.blobs.delete, [key])


def _erased(session: Session, image: Image) -> bool:
    row = session.get(Screening, image.screening_id)
    return row is None or row.erased_at is not None
