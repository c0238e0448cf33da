"""Which columns of `provenances` does one file give?"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worker import pdq
from worker.decoding.pool import DecodeRefusedError, DecoderPool
from worker.provenance import credentials, exif, jpeg

Pixels = npt.NDArray[np.uint8]

# Two renderings of one picture, small and differently cropped, lie below; two pictures around 128 of 256.
MISMATCH = 90


def examine(
    data: bytes, format: str, pixels: Pixels, decoders: DecoderPool, anchors: Path | None = None
) -> dict[str, Any]:
    """Content credentials, EXIF, compression and thumbnail of a file whose upright pixels are (height, width, 3)."""
    block = jpeg.exif_block(data, format)
    found = exif.Exif() if block is None else exif.read(block)
    return {
        "c2pa": credentials.read(data, format, anchors),
        "exif": found.lines,
        "gps": found.gps,
        "jpeg": jpeg.traces(data) if format == "jpeg" else None,
        "thumbnail": None if found.thumbnail is None else _thumbnail(found, pixels, decoders),
    }


def _thumbnail(found: exif.Exif, pixels: Pixels, decoders: DecoderPool) -> dict[str, Any]:
    """Whether the embedded thumbnail shows the same picture: editors that forget it tell on themselves."""
    assert found.thumbnail is not None  # noqa: S101 - asked before
    try:
        small = decoders.decode(found.thumbnail).pixels
    except DecodeRefusedError:
        return {"present": True, "mismatch": False, "distance": None}
    distance = _distance(pixels, _like(_upright(small, found.orientation), pixels))
    return {"present": True, "mismatch": distance > MISMATCH, "distance": distance}


def _upright(small: Pixels, orientation: int) -> Pixels:
    """A thumbnail is stored as the sensor lay, like the image that it belongs to (EXIF 2.32, section 4.6.4)."""
    turned = small.transpose(1, 0, 2) if orientation >= 5 else small
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return turned[::-1] if orientation in (3, 4, 7, 8) else turned


def _like(small: Pixels, pixels: Pixels) -> Pixels:
    """The middle of a thumbnail in the image's proportions: cameras fill 4:3 thumbnails up with black bars."""
    height, width = small.shape[:2]
    wanted = pixels.shape[1] / pixels.shape[0]
    if width / height < wanted:
        keep = max(1, round(width / wanted))
        return small[(height - keep) // 2 :][:keep]
    keep = max(1, round(height * wanted))
    return small[:, (width - keep) // 2 :][:, :keep]


def _distance(first: Pixels, second: Pixels) -> int:
    hashes = [pdq.dihedral(pixels)[0][0] for pixels in (first, second)]
    return pdq.distance(*hashes)
