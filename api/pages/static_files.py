"""How do style sheets and scripts reach a browser? From the package, under a name that changes with the release.

The digest in the address lets browsers keep a file for a year; ES modules import each other by relative paths, so all
of them share one digest, taken over the whole folder.
"""

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from api.problems import not_found

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "Cross-Origin-Resource-Policy": "same-origin"}

router = APIRouter(include_in_schema=False)


@cache
def _files() -> dict[str, Path]:
    """What may be served: a fixed list, so that no path from outside ever meets the file system."""
    found = (path for path in FOLDER.rglob("*") if path.suffix in TYPES)
    return {path.relative_to(FOLDER).as_posix(): path for path in found}


@cache
def digest() -> str:
    """Twelve hex digits over every file's name and content."""
    total = hashlib.sha256()
    for name, path in sorted(_files().items()):
        total.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def address(name: str) -> str:
    """The address of a static file. Raises KeyError for a name that is not there: a typo in a template is a bug."""
    if name not in _files():
        raise KeyError(name)
    return f"/static/{digest()}/{name}"


@router.get("/static/{version}/{name:path}")
async def static_file(version: str, name: str) -> Response:
    """One file; an old version's address still answers, with what there is now."""
    path = _files().get(name)
    if path is None:
        raise not_found()
    headers = HEADERS if version == digest() else {**HEADERS, "Cache-Control": "no-cache"}
    return FileResponse(path, media_type=TYPES[path.suffix], headers=headers)
