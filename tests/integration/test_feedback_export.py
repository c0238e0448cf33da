"""What people decided comes back as a manifest that training and evaluation read."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from screening import corrections, decisions, reviews
from screening import settings as environment
from screening.actors import Actor
from screening.blobs import open_store
from screening.decisions import Choice
from screening.settings import Settings
from screening.tables import Feedback, Platform, Review
from tests import pictures
from tests.reviewing import actor, png, policy, screened, settle, with_files
from worker.commands.export_feedback import export_feedback
from worker.defakerone.manifest import read_manifest
from worker.defakerone.samples import load_sample

Sessions = sessionmaker[Session]


def decided(
    sessions: Sessions, platform: Platform, settings: Settings, choice: Choice, mask: bytes | None = None
) -> str:
    made = screened(sessions, platform)
    with_files(sessions, settings.blob_url, made, pictures.jpeg(64, 48))
    who: Actor = actor(platform)
    with sessions.begin() as session:
        review = reviews.claim_this(session, who, made)
        if mask is not None:
            key = corrections.key(review)
            open_store(settings.blob_url).put(key, mask)
            corrections.add(session, who, made, reviews.token(review), blob_key=key, sha256=bytes(32), iou=0.5)
        decisions.decide(session, who, made, reviews.token(review), choice)
        name = f"scr_{review.screening_id.hex}"
    settle(sessions)
    return name


def test_a_manifest_holds_truths_and_the_masks_that_people_vouch_for(
    sessions: Sessions, platform: Platform, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(sessions, platform)
    drawn = Image.new("L", (64, 48))
    drawn.paste(255, (0, 0, 16, 48))
    corrected = decided(sessions, platform, settings, Choice("fake", mask_feedback="wrong"), png(drawn))
    agreed = decided(sessions, platform, settings, Choice("fake", mask_feedback="right"))
    silent = decided(sessions, platform, settings, Choice("fake"))
    real = decided(sessions, platform, settings, Choice("authentic"))
    undecided = screened(sessions, platform)
    with_files(sessions, settings.blob_url, undecided, pictures.jpeg(64, 48))
    with sessions.begin() as session:
        told = session.get_one(Review, undecided).screening_id
        session.add(Feedback(screening_id=told, truth="authentic"))
    screened(sessions, platform)  # nobody knows: not in it
    monkeypatch.setenv("ASSAY_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("ASSAY_BLOB_URL", settings.blob_url)
    environment.settings.cache_clear()
    result = CliRunner().invoke(export_feedback, [str(tmp_path / "out"), "--platform", "acme"])
    environment.settings.cache_clear()
    assert result.exit_code == 0, result.output
    entries = {entry.id: entry for entry in read_manifest(tmp_path / "out" / "manifest.jsonl")}
    assert {name: entry.label for name, entry in entries.items()} == {
        corrected: "fake", agreed: "fake", silent: "fake", real: "authentic", f"scr_{told.hex}": "authentic",
    }  # fmt: skip
    assert {name for name, entry in entries.items() if entry.mask} == {corrected, agreed}
    shares = {name: np.mean(np.asarray(load_sample(entries[name]).mask) > 0) for name in (corrected, agreed)}
    assert shares == {corrected: 0.25, agreed: 0.5}
    assert (tmp_path / "out" / entries[real].image).read_bytes() == pictures.jpeg(64, 48)
