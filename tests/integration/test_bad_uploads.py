"""Every kind of bad or odd input: a typed refusal or an accepted screening, and the next upload works."""

import io
import random
import struct
import zlib
from collections.abc import Callable

import httpx
import pytest
from PIL import Image, PngImagePlugin
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from screening import header
from screening.blobs import open_store
from screening.settings import Settings
from screening.tables import Screening
from tests import pictures
from tests.problems import assert_problem

Sessions = sessionmaker[Session]
URL = "/v1/screenings"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *before: bytes, data: bytes = b"") -> bytes:
    """A PNG whose header says anything; its pixels are `data`, compressed."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND")


def animated(format: str) -> bytes:
    frames = [pictures.gradient(32, 24).rotate(turn) for turn in (0, 90, 180)]
    return pictures.encode(frames[0], format, save_all=True, append_images=frames[1:])


def broken_exif() -> bytes:
    return pictures.jpeg(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(40))


def tiff_that_reads_itself() -> bytes:
    """A directory of 60,000 entries, each of which says its value is the whole file."""
    entries = 60_000
    size = 8 + 2 + entries * 12 + 4 + 4_000_000
    directory = b"".join(struct.pack("<HHII", 40_000 + i % 20_000, 1, size - 8, 8) for i in range(entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + directory + struct.pack("<I", 0)
    return head + bytes(size - len(head))


REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "empty file": (lambda: b"", 400, "undecodable_header"),
    "text called .jpg": (lambda: b"these are words, not pixels\n" * 40, 415, "unsupported_format"),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(2000), 415, "unsupported_format"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_format"),
    "ico": (lambda: pictures.encode(pictures.gradient(32, 32), "ICO"), 415, "unsupported_format"),
    "jpeg cut off in its header": (lambda: pictures.jpeg()[:20], 400, "undecodable_header"),
    "jpeg of one marker": (lambda: b"\xff\xd8\xff", 400, "undecodable_header"),
    "png without header chunk": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), 400, "undecodable_header"),
    "png of no pixels": (lambda: png_of(0, 0), 400, "undecodable_header"),
    "png of two million empty chunks": (
        lambda: png_of(10, 10, chunk(b"teSt") * 2_000_000)[:24_000_000], 400, "undecodable_header",
    ),
    "jpeg of six million empty segments": (
        lambda: b"\xff\xd8" + b"\xff\xe1\0\2" * 6_000_000, 400, "undecodable_header",
    ),
    "tiff that reads itself": (tiff_that_reads_itself, 400, "undecodable_header"),
    "webp of a huge canvas": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0\xff\x3f\0",
        422, "too_many_pixels",
    ),
    "50,001 x 1": (lambda: png_of(50_001, 1, data=zlib.compress(bytes(50_002))), 422, "too_many_pixels"),
    "169 MP in 20 kB": (lambda: png_of(13_000, 13_000, data=bytes(20_000)), 422, "too_many_pixels"),
    "0.8 GB in 600 kB": (lambda: png_of(14_000, 14_000, data=bytes(600_000)), 422, "too_many_pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_no_worker_should_see_is_refused(
    client: httpx.AsyncClient, settings: Settings, sessions: Sessions, name: str
) -> None:
    make, status, code = REFUSED[name]
    assert_problem(await client.post(URL, files={"image": ("a.jpg", make())}), status, code)
    assert list(open_store(settings.blob_url).keys("")) == []
    assert (await client.post(URL, files={"image": ("a.jpg", pictures.jpeg())})).status_code == 202
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Screening)) == 1


ACCEPTED: dict[str, tuple[Callable[[], bytes], str, tuple[int, int]]] = {
    "truncated jpeg": (lambda: pictures.jpeg(640, 480)[:4000], "jpeg", (640, 480)),
    "polyglot: a GIF that is a script too": (
        lambda: pictures.encode(pictures.gradient(), "GIF") + b"/*<script>*/", "gif", (64, 48),
    ),
    "polyglot: a JPEG with an archive behind it": (lambda: pictures.jpeg() + b"PK\3\4" + bytes(100), "jpeg", (64, 48)),
    "animated gif": (lambda: animated("GIF"), "gif", (32, 24)),
    "animated png": (lambda: animated("PNG"), "png", (32, 24)),
    "animated webp": (lambda: animated("WEBP"), "webp", (32, 24)),
    "animated avif": (lambda: animated("AVIF"), "avif", (32, 24)),
    "16-bit grey": (lambda: pictures.encode(Image.new("I;16", (64, 48), 40_000), "PNG"), "png", (64, 48)),
    "cmyk": (lambda: pictures.encode(pictures.gradient(mode="CMYK"), "JPEG"), "jpeg", (64, 48)),
    "alpha": (lambda: pictures.encode(pictures.gradient(mode="RGBA"), "PNG"), "png", (64, 48)),
    "palette with transparency": (
        lambda: pictures.encode(pictures.gradient().convert("P"), "PNG", transparency=3), "png", (64, 48),
    ),
    "broken ICC": (lambda: pictures.jpeg(icc_profile=b"not a profile" * 10), "jpeg", (64, 48)),
    "broken EXIF": (broken_exif, "jpeg", (64, 48)),
    "tiff": (lambda: pictures.encode(pictures.gradient(), "TIFF"), "tiff", (64, 48)),
    "bmp": (lambda: pictures.encode(pictures.gradient(), "BMP"), "bmp", (64, 48)),
    "0-byte chunks": (lambda: png_of(4, 4, chunk(b"teSt") * 100, data=zlib.compress(bytes(20))), "png", (4, 4)),
    "several pictures, as phones write": (
        lambda: pictures.encode(pictures.gradient(), "MPO", save_all=True, append_images=[pictures.gradient()]),
        "jpeg", (64, 48),
    ),
}  # fmt: skip


async def test_what_only_a_decoder_can_judge_is_accepted(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for name, (make, format, size) in ACCEPTED.items():
        with subtests.test(name):
            answer = await client.post(URL, files={"image": ("a.bin", make())})
            assert answer.status_code == 202, answer.text
            image = answer.json()["image"]
            assert (image["format"], (image["width"], image["height"])) == (format, size)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_upright_size_is_told_in_every_format(settings: Settings, format: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = pictures.encode(pictures.gradient(64, 48), format, exif=exif)
        found = header.read(io.BytesIO(content), len(content), settings)
        assert (found.width, found.height) == ((48, 64) if orientation >= 5 else (64, 48))


BODIES: list[tuple[dict[str, str], bytes, int, str]] = [
    (MULTIPART, b"", 400, "malformed_request"),
    (MULTIPART, b"--b--\r\n", 422, "invalid_request"),
    (MULTIPART, b"not a form at all", 400, "malformed_request"),
    (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
        400,
        "malformed_request",
    ),
    (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="client_ref"\r\n\r\nx\r\n--b--\r\n',
        422,
        "invalid_request",
    ),
    (MULTIPART, b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n', 422, "invalid_request"),
    (MULTIPART, b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 400, "malformed_request"),
    ({"Content-Type": "multipart/form-data"}, b"", 400, "malformed_request"),
    ({"Content-Type": "multipart/form-data; boundary=" + "b" * 300}, b"", 400, "malformed_request"),
    ({"Content-Type": "application/json"}, b"", 400, "malformed_request"),
    ({"Content-Type": "application/json"}, b"{", 400, "malformed_request"),
    ({"Content-Type": "application/json"}, b"[" * 60_000, 400, "malformed_request"),
    ({"Content-Type": "application/json"}, b'{"a": NaN}', 400, "malformed_request"),
    ({"Content-Type": "application/json"}, b"[]", 422, "invalid_request"),
    ({"Content-Type": "application/json"}, b"{}", 422, "invalid_request"),
    ({"Content-Type": "application/json"}, b" " * 70_000, 413, "too_many_bytes"),
    ({"Content-Type": "image/jpeg"}, b"\xff\xd8\xff", 415, "unsupported_media_type"),
    ({}, b"x", 415, "unsupported_media_type"),
]


async def test_bodies_that_are_no_request_are_told_so(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for number, (headers, content, status, code) in enumerate(BODIES):
        with subtests.test(str(number)):
            assert_problem(await client.post(URL, content=content, headers=headers), status, code)


SOURCES: list[tuple[object, str]] = [
    ({}, "#/source"),
    (None, "#/source"),
    ("https://example.com/a.jpg", "#/source"),
    ({"url": "ftp://example.com/a.jpg"}, "#/source/url"),
    ({"url": "https://user:word@example.com/a.jpg"}, "#/source/url"),
    ({"url": "https:///a.jpg"}, "#/source/url"),
    ({"url": "http://[::1"}, "#/source/url"),
    ({"url": "http://example.com:99999/"}, "#/source/url"),
    ({"url": "https://example.com/a b"}, "#/source/url"),
    ({"url": "https://example.com/\0"}, "#/source/url"),
    ({"url": "https://example.com/" + "a" * 3000}, "#/source/url"),
    ({"url": 7}, "#/source/url"),
    ({"url": "https://example.com/a.jpg", "object": "s3://bucket/key"}, "#/source/object"),
    ({"object": "bucket/key"}, "#/source/object"),
    ({"object": "s3://Bucket/key"}, "#/source/object"),
]


async def test_sources_that_are_none_are_named_by_pointer(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for source, pointer in SOURCES:
        with subtests.test(str(source)[:80]):
            answer = await client.post(URL, json={"source": source})
            assert_problem(answer, 422, "invalid_request")
            assert pointer in {error["pointer"] for error in answer.json()["errors"]}


async def test_an_object_in_a_foreign_bucket_is_forbidden(client: httpx.AsyncClient, sessions: Sessions) -> None:
    source = {"source": {"object": "s3://somebody-elses/a.jpg"}}
    assert_problem(await client.post(URL, json=source), 403, "object_forbidden")


METADATA = [
    '{"k": "' + "x" * 5000 + '"}', "[]", "7", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\u0000"}',
    '{"a": "\\ud800"}', '{"\\u0000": 1}', '{"a":' * 1200 + "1" + "}" * 1200, '{"a": ' + "9" * 5000 + "}",
]  # fmt: skip


async def test_metadata_that_cannot_be_kept_is_refused(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for metadata in METADATA:
        with subtests.test(metadata[:40]):
            answer = await client.post(URL, files={"image": ("a", pictures.jpeg())}, data={"metadata": metadata})
            assert_problem(answer, 422, "invalid_request")
            assert answer.json()["errors"][0]["pointer"].startswith("#/metadata")


async def test_metadata_comes_back_as_it_was_sent(client: httpx.AsyncClient) -> None:
    metadata = {"ü": ["☃", 1.5, -0.0, 10**30, None, True, {"": []}], "long": "x" * 3900}
    answer = await client.post(URL, json={"source": {"url": "https://example.com/a"}, "metadata": metadata})
    assert answer.status_code == 202, answer.text
    assert (await client.get(answer.headers["location"])).json()["metadata"] == metadata


@pytest.mark.parametrize("key", ["", '""', "a b", "ü", "x" * 256])
async def test_idempotency_keys_that_are_none_are_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post(
        URL,
        files={"image": ("a", pictures.jpeg())},
        headers=[(b"Idempotency-Key", key.encode())],
    )
    assert_problem(answer, 400, "malformed_request")


async def test_a_form_in_pieces_of_any_size_is_the_same_form(client: httpx.AsyncClient, rng: random.Random) -> None:
    picture = pictures.jpeg(200, 150)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="client_ref"\r\n\r\n\xc3\xbc\r\n'
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    )
    for largest in (1, 2, 7, 100, 5000):

        async def pieces(largest: int = largest):  # type: ignore[no-untyped-def]
            at = 0
            while at < len(body):
                size = rng.randint(1, largest)
                yield body[at : at + size]
                at += size

        answer = await client.post(URL, content=pieces(), headers=MULTIPART)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["image"]["bytes"], answer.json()["client_ref"]) == (len(picture), "ü")


async def test_no_mutated_header_is_ever_a_server_error(settings: Settings, rng: random.Random) -> None:
    """Headers of every format with random bytes changed: refused by name or described."""
    seeds = [
        pictures.encode(pictures.gradient(), format) for format in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
    ]
    header.configure(settings)
    for number in range(700):
        content = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.randint(1, 12)):
            content[rng.randrange(min(len(content), 400))] = rng.randrange(256)
        try:
            found = header.read(io.BytesIO(content), len(content), settings)
        except header.HeaderRefusedError:
            continue
        assert found.width * found.height <= settings.max_pixels


def test_a_text_chunk_that_unpacks_to_much_is_no_bomb(settings: Settings) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "x" * 50_000_000, zip=True)
    content = pictures.encode(pictures.gradient(), "PNG", pnginfo=info)
    with pytest.raises(header.HeaderRefusedError) as refused:
        header.read(io.BytesIO(content), len(content), settings)
    assert refused.value.failure.code == "undecodable"
