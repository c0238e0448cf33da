"""What a file says of itself is read without decoding it, and contradictions are found."""

import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from screening.errors import ConfigurationError
from screening.provenance import conflicts
from screening.settings import Settings
from tests import pictures
from tests.content_credentials import a_signer, signed
from worker.decoding.pool import DecoderPool
from worker.provenance import credentials, credentials_child, exif, jpeg
from worker.provenance.report import _upright, examine

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool(Settings(decoders=1)) as pool:
        yield pool


@pytest.mark.parametrize("quality", [1, 25, 50, 75, 90, 95, 100])
def test_the_quality_of_a_standard_jpeg_is_read_exactly(quality: int) -> None:
    found = jpeg.traces(pictures.jpeg(quality=quality))
    assert found is not None
    assert (found["quality"], found["standard"], found["tables"]) == (quality, True, 2)


def test_tables_that_are_not_the_standard_are_said_to_be_none() -> None:
    found = jpeg.traces(pictures.jpeg(qtables=[[7] * 64, [9] * 64]))
    assert found is not None
    assert found["standard"] is False


def photo(**options: Any) -> bytes:
    made = Image.Exif()
    made[ExifTags.Base.Make] = "Acme\x00<script>"
    made.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)})
    target = BytesIO()
    pictures.gradient().save(target, exif=made, **options)
    return target.getvalue()


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_exif_is_read_from_each_container_with_the_position_apart(format: str) -> None:
    block = jpeg.exif_block(photo(format=format.upper()), format)
    assert block is not None
    found = exif.read(block)
    assert next(line["value"] for line in found.lines if line["name"] == "Make").startswith("Acme")
    assert found.gps == {"latitude": -33.86, "longitude": 151.2}
    assert "151" not in str(found.lines)


def test_damaged_files_give_little_and_raise_nothing(rng: random.Random) -> None:
    whole = photo(format="JPEG")
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(2, len(damaged))] = rng.randrange(256)
        cut = bytes(damaged[: rng.randrange(2, len(damaged))])
        for format in ("jpeg", "png", "webp"):
            block = jpeg.exif_block(cut, format)
            if block is not None:
                exif.read(block)
        jpeg.traces(cut)


def test_a_file_without_marks_of_a_manifest_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "subprocess", None)
    assert credentials.read(pictures.jpeg(), "jpeg") == credentials.ABSENT


def test_a_broken_manifest_is_unreadable_or_absent_and_never_valid() -> None:
    broken = pictures.jpeg()[:-2] + b"\xff\xeb\x00\x20JP\0\0jumbc2pa" + b"\0" * 16 + b"\xff\xd9"
    assert credentials.read(broken, "jpeg")["state"] in ("absent", "unreadable")


def test_a_manifest_store_is_told_in_few_words() -> None:
    action = {"action": "c2pa.created", "digitalSourceType": f"{IPTC}digitalCapture"}
    store = {
        "active_manifest": "m", "validation_state": "Trusted",
        "manifests": {"m": {
            "claim_generator_info": [{"name": "Cam", "version": "2"}],
            "signature_info": {"issuer": "Acme"},
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }},
    }  # fmt: skip
    found = credentials_child.report(store)
    assert (found["state"], found["generator"], found["signer"], found["sources"]) == (
        "valid", "Cam 2", "Acme", ["digitalCapture"],
    )  # fmt: skip
    assert found["claims"] == [{"label": "c2pa.created", "text": "Captured by a camera"}]


def report(state: str = "absent", *sources: str, mismatch: bool | None = None) -> dict[str, Any]:
    thumbnail = None if mismatch is None else {"present": True, "mismatch": mismatch, "distance": 1}
    return {"c2pa": {"state": state, "sources": list(sources)}, "thumbnail": thumbnail}


@pytest.mark.parametrize(
    ("said", "label", "found"),
    [
        (report("valid", "digitalCapture"), "fake", ["signed_capture_but_high_score"]),
        (report("untrusted", "computationalCapture"), "fake", ["signed_capture_but_high_score"]),
        (report("invalid", "digitalCapture"), "fake", []),
        (report("valid", "digitalCapture"), "authentic", []),
        (report("valid", "trainedAlgorithmicMedia"), "authentic", ["signed_generated_but_low_score"]),
        (report("valid", "digitalCapture", "compositeWithTrainedAlgorithmicMedia"), "fake", []),
        (report("absent"), "fake", []),
        (report("absent", mismatch=True), "authentic", ["thumbnail_mismatch"]),
        (report("absent", mismatch=False), "fake", []),
    ],
)
def test_only_an_intact_claim_contradicts_a_verdict(said: dict[str, Any], label: str, found: list[str]) -> None:
    assert conflicts(said, label) == found


@pytest.mark.parametrize("same", [True, False])
def test_a_thumbnail_of_another_picture_is_noticed(decoders: DecoderPool, rng: random.Random, same: bool) -> None:
    def picture() -> Image.Image:
        noise = np.frombuffer(rng.randbytes(24 * 16 * 3), np.uint8).reshape(16, 24, 3)
        return Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC)

    main = picture()
    shown = main if same else picture()
    small = Image.new("RGB", (160, 120))
    small.paste(shown.resize((160, 107)), (0, 6))
    thumbnail = BytesIO()
    small.save(thumbnail, "JPEG", quality=80)
    content = _with_thumbnail(main, thumbnail.getvalue())
    found = examine(content, "jpeg", np.asarray(main), decoders)["thumbnail"]
    assert found is not None
    assert found["mismatch"] is not same, found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_thumbnail_is_turned_as_its_image_is(orientation: int) -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(stored)
    image.info["exif"] = made.tobytes()
    assert (_upright(stored, orientation) == np.asarray(ImageOps.exif_transpose(image))).all()


def _with_thumbnail(image: Image.Image, thumbnail: bytes) -> bytes:
    """A JPEG whose EXIF has a second directory that points to a thumbnail (TIFF 6.0, big-endian)."""
    first = b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00"
    second_at = 8 + len(first) + 4
    entries = [(0x0201, second_at + 2 + 24 + 4), (0x0202, len(thumbnail))]
    second = b"\x00\x02" + b"".join(tag.to_bytes(2, "big") + b"\x00\x04\x00\x00\x00\x01" + value.to_bytes(4, "big")
                                    for tag, value in entries) + bytes(4)  # fmt: skip
    block = b"MM\x00\x2a\x00\x00\x00\x08" + first + second_at.to_bytes(4, "big") + second + thumbnail
    target = BytesIO()
    image.save(target, "JPEG", quality=90, exif=b"Exif\0\0" + block)
    return target.getvalue()


def test_a_signed_capture_is_read_in_a_process_of_its_own_and_tampering_shows() -> None:
    content = signed(pictures.jpeg(256, 192), "digitalCapture")
    found = credentials.read(content, "jpeg")
    assert (found["state"], found["sources"], found["generator"]) == ("untrusted", ["digitalCapture"], "Test camera 1")
    assert conflicts({"c2pa": found, "thumbnail": None}, "fake") == ["signed_capture_but_high_score"]
    altered = bytearray(content)
    altered[-100] ^= 0x55
    tampered = credentials.read(bytes(altered), "jpeg")
    assert tampered["state"] == "invalid"
    assert conflicts({"c2pa": tampered, "thumbnail": None}, "fake") == []


def test_a_signer_under_one_of_the_operators_anchors_is_trusted_and_any_other_is_not(tmp_path: Path) -> None:
    known, anchors = a_signer(), tmp_path / "anchors.pem"
    anchors.write_bytes(a_signer().authority + known.authority)
    found = [credentials.read(signed(pictures.jpeg(256, 192), "digitalCapture", by), "jpeg", anchors)
             for by in (known, a_signer())]  # fmt: skip
    assert [said["state"] for said in found] == ["valid", "untrusted"]
    assert [said["problems"] for said in found] == [[], ["signingCredential.untrusted"]]


@pytest.mark.parametrize("content", [None, b"no certificate", b"\xff\xfe"])
def test_anchors_that_hold_no_certificate_are_refused_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "anchors.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="ASSAY_C2PA_TRUST_ANCHORS"):
        credentials.trust_anchors(path)
    assert credentials.trust_anchors(None) is None


def test_a_manifest_that_lies_elsewhere_is_never_fetched() -> None:
    asked: list[str] = []

    class Ears(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Ears) as elsewhere:
        Thread(target=elsewhere.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{elsewhere.server_port}/manifest.c2pa"
        content = signed(pictures.jpeg(256, 192), "digitalCapture", manifest_at=url)
        assert url.encode() in content
        found = credentials.read(content + b"jumb c2pa", "jpeg")  # with the marks of one inside, so that it is read
        elsewhere.shutdown()
    assert found["state"] in ("absent", "unreadable")
    assert asked == []
