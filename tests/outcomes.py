"""How does a screening end when no worker runs? By hand: claimed, with real files stored, completed."""

import hashlib
from datetime import timedelta
from uuid import UUID

from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from screening import blobs, jobs
from screening.blobs import BlobStore
from screening.ids import Prefix, decode
from tests import pictures
from tests.findings import finding


def claim(sessions: sessionmaker[Session], count: int = 100) -> list[jobs.Claim]:
    """Take whatever is due."""
    with sessions.begin() as session:
        return jobs.claim(session, limit=count, worker="by-hand", lease=timedelta(minutes=5))


def succeed(sessions: sessionmaker[Session], store: BlobStore, held: jobs.Claim, **values: object) -> None:
    """Store a mask and a heat map of 64 x 48 and complete the screening."""
    columns: dict[str, object] = {}
    for name, shade in (("mask", 255), ("heatmap", 180)):
        layer = Image.new("L", (64, 48))
        layer.paste(shade, (8, 8, 32, 24))
        content = pictures.encode(layer, "PNG")
        key = blobs.derived_key(held.platform_id, held.screening_id, held.attempt, f"{name}.png")
        store.put(key, content, "image/png")
        columns |= {f"{name}_key": key, f"{name}_sha256": hashlib.sha256(content).digest()}
    with sessions.begin() as session:
        assert jobs.complete(session, held, finding(held, **(columns | values)))


def uuid_of(public_id: str) -> UUID:
    """The UUID behind a screening's id."""
    id = decode(Prefix.SCREENING, public_id)
    assert id is not None
    return id
