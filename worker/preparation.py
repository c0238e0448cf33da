"""How do the bytes of a claimed screening become the detector's input?

Read, decoded in a subprocess, hashed, cut into tiles: everything before the detector, on one thread an image. What goes
wrong is told apart here: the image's own fault, or the machinery's.
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog
from PIL import Image as PillowImage

from screening.blobs import BlobStore
from screening.errors import BlobNotFoundError, BlobStoreError, Failure, FailureCode
from screening.jobs import Claim
from worker import metrics, milestones, pdq
from worker.decoding.pool import Decoded, DecoderClosedError, DecodeRefusedError, DecoderPool, DecoderStartError
from worker.defakerone import DeFakerOne
from worker.defakerone.errors import ImageError
from worker.defakerone.preprocessing import Prepared
from worker.milestones import Milestone
from worker.outcomes import Failed, Released
from worker.provenance.report import examine

logger = structlog.get_logger(__name__)

Pixels = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Ready:
    """A screening that waits for the detector, with what decoding told."""

    claim: Claim
    prepared: Prepared
    image: dict[str, Any]  # columns of the image row
    reasons: list[str]
    provenance: dict[str, Any]  # what the file says of itself; see `worker.provenance.report`
    decode_ms: int
    inference_ms: int = field(default=0)


class Preparation:
    """Prepares one claim after the other; thread-safe."""

    def __init__(
        self, store: BlobStore, decoders: DecoderPool, detector: DeFakerOne, anchors: Path | None = None
    ) -> None:
        self._store = store
        self._decoders = decoders
        self._detector = detector
        self._anchors = anchors

    def prepare(self, claim: Claim) -> Ready | Failed | Released:
        """Bring one claim as far as the detector's door."""
        try:
            return self._prepare(claim)
        except DecodeRefusedError as error:
            return Failed(error.failure, error.strike)
        except ImageError as error:
            return Failed(Failure(FailureCode.UNDECODABLE, str(error)), strike=False)
        except BlobNotFoundError:
            return self._missing()
        except BlobStoreError as error:
            return _store_failed(error)
        except (DecoderStartError, MemoryError) as error:
            logger.warning("preparation.decoder", error=str(error))
            return Released("decoder")
        except DecoderClosedError:
            return Released("shutdown", backoff=False)

    def _prepare(self, claim: Claim) -> Ready:
        start = time.perf_counter()
        with metrics.stage("fetch"):
            data = self._read(claim)
        with metrics.stage("decode"):
            decoded = self._decoders.decode(data)
        with metrics.stage("hash"):
            pdq = pdq_columns(decoded.pixels)
        with metrics.stage("provenance"):
            said = examine(data, decoded.format, decoded.pixels, self._decoders, self._anchors)
        with metrics.stage("preprocess"):
            prepared = self._detector.preprocess(PillowImage.fromarray(decoded.pixels))
        milestones.reached(Milestone.PREPARED, claim)
        return Ready(
            claim=claim,
            prepared=prepared,
            image=image_columns(decoded) | pdq,
            reasons=decoded.reasons,
            provenance=said,
            decode_ms=round((time.perf_counter() - start) * 1000),
        )

    def _missing(self) -> Failed | Released:
        """One blob is gone, or all of them are: a folder that is not mounted is not the image's fault."""
        try:
            self._store.check()
        except BlobStoreError as error:
            return _store_failed(error)
        failure = Failure(FailureCode.OBJECT_NOT_FOUND, "The image's bytes are gone.", retryable=True)
        return Failed(failure, strike=True, slowly=True)

    def _read(self, claim: Claim) -> bytes:
        if claim.blob_key is None or claim.sha256 is None:
            raise BlobNotFoundError(str(claim.screening_id))
        data = self._store.get(claim.blob_key)
        if hashlib.sha256(data).digest() != claim.sha256:
            raise BlobStoreError(f"{claim.blob_key} does not hold the bytes that were stored")
        return data


def _store_failed(error: BlobStoreError) -> Released:
    logger.warning("preparation.blob_store", error=str(error))
    return Released("blob_store")


def image_columns(decoded: Decoded) -> dict[str, Any]:
    """What only decoding can tell about an image, as columns."""
    height, width = decoded.pixels.shape[:2]
    return {
        "format": decoded.format,
        "width": width,
        "height": height,
        "frames": decoded.frames,
        "orientation_applied": decoded.orientation_applied,
    }


def pdq_columns(pixels: Pixels) -> dict[str, Any]:
    """The PDQ hash of an upright picture (height, width, 3), 32 bytes, its quality 0..100, and its dihedral hashes."""
    (upright, *turned), quality = pdq.dihedral(pixels)
    return {"pdq_hash": upright, "pdq_quality": quality, "pdq_dihedral": b"".join(turned)}
