"""How does the API decode pictures without endangering itself? It does not: programs of their own do, under limits.

Intake never decodes. What people look at (overlays, thumbnails, error levels) or draw (corrected masks) is computed in
a process with little memory and time, on files in a folder that is removed with it. Few run at once.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from starlette.concurrency import run_in_threadpool

from api.problems import Kind, Problem
from api.services import Services
from screening.blobs import BlobStore

logger = structlog.get_logger(__name__)

SECONDS = 30.0


@asynccontextmanager
async def workshop(services: Services, inputs: Mapping[str, str | bytes]) -> AsyncIterator[Path]:
    """A folder that holds the inputs, each a blob's key or bytes, and that few may have at once."""
    async with services.drawing:
        with tempfile.TemporaryDirectory(prefix="assay-drawing-", dir=services.settings.spool_dir) as name:
            folder = Path(name)
            for part, source in inputs.items():
                await run_in_threadpool(_place, services.blobs, source, folder / part)
            yield folder


def _place(store: BlobStore, source: str | bytes, target: Path) -> None:
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    with target.open("wb") as file:
        file.writelines(store.stream(source, 1 << 20))


async def keep(services: Services, drawn: Path, key: str, media_type: str) -> None:
    """Store what was drawn."""
    await run_in_threadpool(_keep, services.blobs, drawn, key, media_type)


def _keep(store: BlobStore, drawn: Path, key: str, media_type: str) -> None:
    with drawn.open("rb") as file:
        store.put(key, file, media_type)


async def run(program: str, folder: Path, arguments: Sequence[str], undrawable: Kind, detail: str) -> None:
    """Run a module of this package on a folder. Raises the Problem where it fails, dies or takes too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", f"api.{program}", str(folder), *arguments,
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
        logger.warning("drawing.failed", program=program, status=status)
        raise Problem(undrawable, detail)
