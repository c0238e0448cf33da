"""How do stored bytes reach a client? By a signed address where the store has one, else streamed through us.

An ETag is the content's sha256, so a copy is never fetched twice; `no-cache` makes the client ask each time, because
bytes may have been erased since.
"""

from fastapi import Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from screening.blobs import BlobStore

SIGNED_SECONDS = 60
CACHE = {"Cache-Control": "private, no-cache"}


async def serve(
    request: Request,
    blobs: BlobStore,
    key: str,
    *,
    etag: str,
    media_type: str,
    size: int | None = None,
    through_us: bool = False,
) -> Response:
    """304, 307 or 200; never 307 with `through_us`, for pages that may ask no other host.

    Raises BlobNotFoundError and BlobStoreError before an answer has begun.
    """
    headers = CACHE | {"ETag": f'"{etag}"'}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    url = None if through_us else await run_in_threadpool(blobs.signed_url, key, SIGNED_SECONDS)
    if url is not None:
        return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    chunks = await run_in_threadpool(blobs.stream, key)
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(chunks, headers=headers, media_type=media_type)


def unchanged(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this ETag (RFC 9110, section 13.1.2: compared weakly)."""
    given = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or f'"{etag}"' in tags
