"""How does a person see at a glance what was found? The image with its heat map, drawn once and kept beside the mask.

Drawing decodes the image, which intake never does. So it happens in a process of its own, with little memory and time:
a picture that kills its decoder costs one overlay, not the API. Few run at once, and each is drawn once.
"""

import asyncio
import hashlib
import sys
import tempfile
from pathlib import Path

import structlog
from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import files
from api.problems import Kind, Problem
from api.services import Services
from screening import blobs
from screening.blobs import BlobStore
from screening.tables import Finding, Image, Screening

logger = structlog.get_logger(__name__)

VERSION = b"1"  # of the drawing: another one is another ETag and another file
NAME = "overlay-1.jpg"
SECONDS = 30.0
UNDRAWABLE = Kind("overlay_failed", 500, "The overlay could not be drawn")


async def serve(request: Request, services: Services, image: Image, finding: Finding) -> Response:
    """The overlay, from the store or drawn now. Raises Problem 500 where it cannot be drawn."""
    etag = hashlib.sha256(VERSION + image.sha256 + finding.mask_sha256 + finding.heatmap_sha256).hexdigest()
    if files.unchanged(request, etag):
        return Response(status_code=304, headers=files.CACHE | {"ETag": f'"{etag}"'})
    key = blobs.derived_key(image.platform_id, image.screening_id, finding.attempt, NAME)
    if not await run_in_threadpool(services.blobs.exists, key):
        async with services.drawing:
            await _draw(services, image, finding, key)
    return await files.serve(request, services.blobs, key, etag=etag, media_type="image/jpeg")


async def _draw(services: Services, image: Image, finding: Finding, key: str) -> None:
    with tempfile.TemporaryDirectory(prefix="assay-overlay-", dir=services.settings.spool_dir) as name:
        folder = Path(name)
        inputs = {"image": image.blob_key, "mask": finding.mask_key, "heatmap": finding.heatmap_key}
        for part, source in inputs.items():
            await run_in_threadpool(_fetch, services.blobs, source, folder / part)
        await _run(folder, services.settings.max_pixels)
        await run_in_threadpool(_keep, services.blobs, folder / NAME, key)
    if await services.database.run(_erased, image):  # while we drew: what was just written must go too
        await run_in_threadpool(services.blobs.delete, [key])


def _fetch(store: BlobStore, key: str, target: Path) -> None:
    with target.open("wb") as file:
        file.writelines(store.stream(key, 1 << 20))


def _keep(store: BlobStore, drawn: Path, key: str) -> None:
    with drawn.open("rb") as file:
        store.put(key, file, "image/jpeg")


def _erased(session: Session, image: Image) -> bool:
    row = session.get(Screening, image.screening_id)
    return row is None or row.erased_at is not None


async def _run(folder: Path, max_pixels: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(Path(__file__).with_name("overlay_drawing.py")), str(folder), NAME, str(max_pixels),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            status = await process.wait()
    except TimeoutError:
        status = -1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        logger.warning("overlay.failed", status=status)
        raise Problem(UNDRAWABLE, "This image cannot be drawn. Its mask and heat map are there.")
