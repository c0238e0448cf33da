"""What is drawn for a reviewer's eyes? Thumbnails, error levels, and an upright PNG of what browsers cannot show."""

import hashlib
from enum import StrEnum

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from api import drawing, files, problems
from api.overlay import drop_if_erased
from api.services import Services
from screening import blobs
from screening.tables import Finding, Image

VERSION = "1"  # of the drawing: another one is another ETag and another file
UNDRAWABLE = problems.Kind("rendition_failed", 500, "The image could not be drawn")


class Kind(StrEnum):
    """Which drawing; see `api/rendition_drawing.py`."""

    THUMBNAIL = "thumbnail"
    UPRIGHT = "upright"
    ELA = "ela"


async def serve(request: Request, services: Services, image: Image, finding: Finding, kind: Kind) -> Response:
    """A rendition, from the store or drawn now. Raises Problem 500 where it cannot be drawn."""
    etag = hashlib.sha256(f"{kind} {VERSION} ".encode() + image.sha256).hexdigest()
    if files.unchanged(request, etag):
        return Response(status_code=304, headers=files.CACHE | {"ETag": f'"{etag}"'})
    media_type, extension = ("image/jpeg", "jpg") if kind is Kind.THUMBNAIL else ("image/png", "png")
    name = f"{kind}-{VERSION}.{extension}"
    key = blobs.derived_key(image.platform_id, image.screening_id, finding.attempt, name)
    if not await run_in_threadpool(services.blobs.exists, key):
        await _draw(services, image, kind, key, media_type)
    return await files.serve(request, services.blobs, key, etag=etag, media_type=media_type, through_us=True)


async def _draw(services: Services, image: Image, kind: Kind, key: str, media_type: str) -> None:
    async with drawing.workshop(services, {"image": image.blob_key}) as folder:
        arguments = [kind.value, str(services.settings.max_pixels)]
        await drawing.run("rendition_drawing", folder, arguments, UNDRAWABLE, "This image cannot be drawn.")
        await drawing.keep(services, folder / "out", key, media_type)
    await drop_if_erased(services, image, key)
