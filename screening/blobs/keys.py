"""Under which key does a blob lie? Keys are computed, so that a retry overwrites and a purge needs no list.

`<platform>/<screening>/image`, and per attempt `<platform>/<screening>/<attempt>/mask.png`: a stale worker may still be
uploading when its successor's finding is committed, and must not overwrite what that finding's sha256 speaks of.
"""

from uuid import UUID


def screening_prefix(platform_id: UUID, screening_id: UUID) -> str:
    """The folder that holds everything of one screening."""
    return f"{platform_id.hex}/{screening_id.hex}/"


def image_key(platform_id: UUID, screening_id: UUID) -> str:
    """The uploaded or fetched bytes."""
    return screening_prefix(platform_id, screening_id) + "image"


def derived_key(platform_id: UUID, screening_id: UUID, attempt: int, name: str) -> str:
    """A mask, heat map or other file that one attempt derived."""
    return f"{screening_prefix(platform_id, screening_id)}{attempt}/{name}"
