"""A signed image through real processes: what it says of itself is stored, and no machine decides against it alone."""

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from screening.provenance import CAPTURED
from screening.tables import Finding, Platform, Provenance, Review
from tests.content_credentials import Signer, a_signer, signed
from tests.reviewing import policy
from tests.running_line import RunningLine, picture, running_line

CAPTURE, GENERATED = "digitalCapture", "trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def camera() -> Signer:
    return a_signer()


@pytest.fixture(scope="module")
def line(run_folder: Path, camera: Signer) -> Iterator[RunningLine]:
    """A line that trusts the camera's authority, before a policy that would let machines block everything."""
    folder = run_folder / "credentials"
    folder.mkdir()
    anchors = folder / "anchors.pem"
    anchors.write_bytes(camera.authority)
    with running_line(folder, {"ASSAY_C2PA_TRUST_ANCHORS": str(anchors)}) as running:
        with running.sessions() as session:
            platform = session.scalars(select(Platform)).one()
        policy(running.sessions, platform, {"otherwise": "block"})
        running.screen_worker()
        running.start("sweeper")
        yield running


def ruled(session: Session, id: UUID) -> tuple[Finding, Provenance]:
    return session.get_one(Finding, id), session.get_one(Provenance, id)


def test_a_signed_image_that_contradicts_its_verdict_goes_to_a_person_and_is_not_blocked(
    line: RunningLine, camera: Signer, rng: random.Random
) -> None:
    plain = picture(rng, 640, 480)
    # Whatever the detector says of these pixels, one of the two contradicts it: a capture a fake, a render an original.
    images = [signed(plain, CAPTURE, camera), signed(plain, GENERATED, camera), signed(plain, CAPTURE), plain]
    ids = line.accept(images)
    line.wait_ended(ids)
    line.check(ids)
    with line.sessions() as session:
        capture, render, by_nobody, unsigned = (ruled(session, id) for id in ids)
        assert [said.c2pa["state"] for _, said in (capture, render, by_nobody, unsigned)] == [
            "valid", "valid", "untrusted", "absent",
        ]  # fmt: skip
        assert set(capture[1].c2pa["sources"]) <= CAPTURED
        label = unsigned[0].label
        assert {finding.label for finding, _ in (capture, render, by_nobody)} == {label}
        assert label in ("fake", "authentic")
        contradicting = [capture, by_nobody] if label == "fake" else [render]
        agreeing = [render] if label == "fake" else [capture, by_nobody]
        code = "signed_capture_but_high_score" if label == "fake" else "signed_generated_but_low_score"
        for finding, said in contradicting:
            assert said.conflicts == [code]
            assert (finding.outcome, finding.guard) == ("review", "provenance_conflict")
            [review] = session.scalars(select(Review).where(Review.screening_id == finding.screening_id))
            assert review.risk == pytest.approx(min(1, (finding.probability or finding.score) + 0.3))
        for finding, said in (*agreeing, unsigned):
            assert said.conflicts == []
            assert (finding.outcome, finding.guard) == ("block", None)
            assert not session.scalars(select(Review).where(Review.screening_id == finding.screening_id)).all()
