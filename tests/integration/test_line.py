"""One image through real processes: from accepted bytes to a stored finding."""

import random
from io import BytesIO

from PIL import Image as PillowImage
from sqlalchemy import select

from screening.tables import Finding, Image, Screening
from tests.running_line import RunningLine, picture


def test_an_accepted_image_becomes_a_finding_with_its_files(line: RunningLine, rng: random.Random) -> None:
    ids = line.accept([picture(rng, 96, 72), picture(rng, 64, 200)])
    line.wait_ended(ids)
    line.check(ids)
    with line.sessions() as session:
        finding, image = session.get_one(Finding, ids[1]), session.query(Image).filter_by(screening_id=ids[1]).one()
    mask = PillowImage.open(BytesIO(line.store.get(finding.mask_key)))
    assert (mask.mode, mask.size) == ("L", (64, 200))
    assert (image.width, image.height, image.frames, len(image.pdq_hash or b"")) == (64, 200, 1, 32)
    assert finding.outcome is not None


def test_the_same_bytes_again_reuse_the_finding_and_own_their_files(line: RunningLine, rng: random.Random) -> None:
    content = picture(rng)
    [first] = line.accept([content])
    line.wait_ended([first])
    [again] = line.accept([content])
    line.wait_ended([again])
    line.check([first, again])
    with line.sessions() as session:
        one, two = session.get_one(Finding, first), session.get_one(Finding, again)
    assert (one.reused_from, two.reused_from) == (None, first)
    assert (one.score, one.mask_sha256) == (two.score, two.mask_sha256)
    assert one.mask_key != two.mask_key


def test_the_same_bytes_many_times_at_once_run_through_the_detector_once(line: RunningLine, rng: random.Random) -> None:
    content, other = picture(rng), picture(rng)
    ids = line.accept([content] * 3 + [other] + [content] * 3, ring=False)
    line.doorbell.ring_screening()
    line.wait_ended(ids)
    line.check(ids)
    same = [i for n, i in enumerate(ids) if n != 3]
    with line.sessions() as session:
        findings = {i: session.get_one(Finding, i) for i in ids}
        attempts = session.scalars(select(Screening.attempt).where(Screening.id.in_(ids))).all()
    [first] = [i for i in same if findings[i].reused_from is None]
    assert all(findings[i].reused_from == first for i in same if i != first)
    assert findings[ids[3]].reused_from is None
    assert len({findings[i].mask_key for i in same}) == len(same)
    assert {findings[i].mask_sha256 for i in same} == {findings[first].mask_sha256}
    assert set(attempts) == {1}


def test_the_same_broken_bytes_many_times_at_once_fail_each(line: RunningLine) -> None:
    ids = line.accept([b"this is text, several times"] * 5, ring=False)
    line.doorbell.ring_screening()
    line.wait_ended(ids)
    line.check(ids, failed=ids)


def test_bytes_that_are_no_image_fail_with_a_reason_and_without_a_retry(line: RunningLine, rng: random.Random) -> None:
    bad, good = line.accept([b"this is text", picture(rng)])
    line.wait_ended([bad, good])
    line.check([bad, good], failed=[bad])
