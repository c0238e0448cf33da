"""How does what people decided come back to training? As a manifest with images, truths and masks beside it."""

from io import BytesIO
from pathlib import Path

import click
from PIL import Image

from screening import audit, feedback_export
from screening.blobs import BlobStore, open_store
from screening.commands.admin.group import platform_named, transaction
from screening.errors import BlobNotFoundError
from screening.feedback_export import Lesson
from screening.ids import Prefix, encode
from screening.settings import settings
from worker.defakerone.manifest import DOMAINS, Entry, write_manifest

EXTENSIONS = {"jpeg": "jpg"}


@click.command("export-feedback")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--platform", required=True, help="Whose images; by name or id.")
@click.option("--domain", type=click.Choice(DOMAINS), default="nature", show_default=True,
              help="Of images whose metadata names none.")  # fmt: skip
def export_feedback(out: Path, platform: str, domain: str) -> None:
    """Write reviewed images, their truth and the masks that people drew or agreed with to OUT/manifest.jsonl.

    A fake whose mask nobody drew or agreed with comes without one: `assay train` then learns its verdict alone.
    """
    store = open_store(settings().blob_url, settings().s3_endpoint_url)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "masks").mkdir(exist_ok=True)
    entries: list[Entry] = []
    with transaction() as session:
        row = platform_named(session, platform)
        for lesson in feedback_export.lessons(session, row.id):
            entry = _entry(lesson, store, out, domain)
            if entry is not None:
                entries.append(entry)
        count = write_manifest(out / "manifest.jsonl", entries)
        subject = encode(Prefix.PLATFORM, row.id)
        audit.append(session, actor="operator", action="feedback.exported", subject=subject, details={"count": count})
    masks = sum(entry.mask is not None for entry in entries)
    click.echo(f"{count} images, {masks} of them with a mask, in {out / 'manifest.jsonl'}")


def _entry(lesson: Lesson, store: BlobStore, out: Path, domain: str) -> Entry | None:
    """One line with its files written; None where the image was erased meanwhile."""
    name = encode(Prefix.SCREENING, lesson.screening_id)
    image = f"images/{name}.{EXTENSIONS.get(lesson.format, lesson.format)}"
    try:
        (out / image).write_bytes(store.get(lesson.image_key))
        mask = _mask(lesson, store, out, name)
    except BlobNotFoundError:
        return None
    return Entry(
        id=name,
        image=image,
        label="fake" if lesson.truth == "fake" else "authentic",
        domain=next((known for known in DOMAINS if known == (lesson.domain or domain)), DOMAINS[0]),
        root=out,
        mask=mask,
        operation="unknown" if lesson.truth == "fake" else "none",
        dataset="feedback",
        group=lesson.sha256[:16],  # exact copies stay on one side of every split
        width=lesson.width,
        height=lesson.height,
        extra={
            "reviewed": lesson.reviewed,
            "mask_corrected": lesson.corrected,
            "score": lesson.score,
            "weights_sha256": lesson.weights_sha256,
        },
    )


def _mask(lesson: Lesson, store: BlobStore, out: Path, name: str) -> str | None:
    """The mask of a fake, if somebody vouches for it and it marks anything."""
    if lesson.truth != "fake" or lesson.mask_key is None:
        return None
    content = store.get(lesson.mask_key)
    with Image.open(BytesIO(content), formats=("PNG",)) as opened:
        if opened.getbbox() is None:
            return None
    mask = f"masks/{name}.png"
    (out / mask).write_bytes(content)
    return mask
