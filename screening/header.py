"""What does an image's header say? Format and upright size, read under limits, without decoding a pixel.

Intake asks it of uploads, the worker of what it fetched from a source.
Only what Pillow recognises as one of our formats counts: a polyglot is what its first bytes make it. The reader counts
what Pillow asks for, because a header can be made of a million empty chunks or of one directory entry that is read
sixty thousand times.
"""

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from screening.errors import AssayError, Failure, FailureCode
from screening.settings import MEBIBYTE, Settings

# Pillow's name -> ours. MPO is a JPEG with further pictures behind it, as phones write.
FORMATS = {
    "JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "AVIF": "avif", "GIF": "gif", "TIFF": "tiff",
    "BMP": "bmp",
}  # fmt: skip
OPENED_AS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
# How each begins: what starts like this but cannot be read is a broken image, anything else is another format.
SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"BM",
)
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height

MAX_READS = 20_000  # real headers take some hundreds
MAX_EXIF_BYTES = 64 * 1024  # of a chunk that is read for its orientation alone; JPEG's holds no more
MAX_HEADER_BYTES = 16 * MEBIBYTE  # phones put whole depth maps before the first scan

# Image generators write their recipe into packed text; Pillow's own limit of 1 MiB refuses real files.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * MEBIBYTE
# It logs some damage as errors; whoever uploads a damaged file should not be able to write our log.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# Pillow only warns between its limit and twice that. For us the limit is the limit.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# About broken EXIF and odd tags it warns too, which is nobody's news here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class HeaderRefusedError(AssayError):
    """The header alone tells that this image will not be screened, and why."""

    def __init__(self, code: FailureCode, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(code, detail)


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before it is decoded. Width and height are upright."""

    format: str
    width: int
    height: int
    turned: bool  # whether the stored pixels carry an orientation other than the upright one


class _TooBusyError(Exception):
    """The header asks for more reading than any real one."""


class _CountedFile(io.RawIOBase):
    """A file that stops answering a reader who asks too often or for too much."""

    def __init__(self, file: BinaryIO, allowance: int) -> None:
        self._file = file
        self._bytes = allowance
        self._reads = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._reads -= 1
        self._bytes -= len(data)
        if self._reads < 0 or self._bytes < 0:
            raise _TooBusyError
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def configure(settings: Settings) -> None:
    """Make Pillow refuse by itself what we refuse: its WebP reader allocates the canvas when it opens a file."""
    Image.MAX_IMAGE_PIXELS = settings.max_pixels


def read(file: BinaryIO, size: int, settings: Settings) -> Header:
    """Read the header of a file of `size` bytes.

    Raises HeaderRefusedError: `undecodable`, `unsupported_format` or `too_many_pixels`.
    """
    begin = _begin(file)
    if size == 0:
        raise HeaderRefusedError(FailureCode.UNDECODABLE, "The image is empty.")
    allowance = size + MEBIBYTE if _reads_whole(begin) else min(size, MAX_HEADER_BYTES) + MEBIBYTE
    try:
        with Image.open(_CountedFile(file, allowance), formats=OPENED_AS) as image:  # type: ignore[arg-type]
            header = _describe(image, _orientation(image, file))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_many(settings) from None
    except UnidentifiedImageError:
        raise _unreadable(begin) from None
    except (
        _TooBusyError,
        OSError,
        ValueError,
        OverflowError,
        MemoryError,
        struct.error,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        ZeroDivisionError,
        RuntimeError,
    ):
        raise HeaderRefusedError(FailureCode.UNDECODABLE, "The image header is damaged.") from None
    return _checked(header, settings)


def reads_whole(file: BinaryIO) -> bool:
    """Whether reading this header takes the whole file through memory, so that few should be read at once."""
    return _reads_whole(_begin(file))


def _begin(file: BinaryIO) -> bytes:
    file.seek(0)
    begin = file.read(16)
    file.seek(0)
    return begin


def _reads_whole(begin: bytes) -> bool:
    return begin[:4] == b"RIFF" or begin[4:8] == b"ftyp"


def _describe(image: Image.Image, orientation: int) -> Header:
    swap = orientation in TURNED and image.format != "TIFF"  # whose reader has swapped them already
    width, height = image.size[::-1] if swap else image.size
    return Header(FORMATS[image.format or ""], width, height, turned=orientation in range(2, 9))


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """The EXIF orientation, 1 where there is none or it cannot be read.

    The class's own method, because PNG's would decode the pixels to find an `eXIf` chunk behind them.
    """
    try:
        exif = Image.Image.getexif(image)
        if image.format == "PNG" and (last := _last_exif(file)):
            exif.load(last)
        value = exif.get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, OSError, KeyError, IndexError, OverflowError, struct.error):
        return 1
    return value if isinstance(value, int) else 1


def _last_exif(file: BinaryIO) -> bytes:
    """The last `eXIf` chunk of a PNG, which may lie behind the pixels: the one that holds, as decoders read on to it.

    From head of chunk to head of chunk, and no further than real files have them: what is beyond, the worker finds.
    """
    found = b""
    file.seek(len(b"\x89PNG\r\n\x1a\n"))
    for _ in range(MAX_READS):
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf" and length <= MAX_EXIF_BYTES:
            found = file.read(length)
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)
    return found


def _checked(header: Header, settings: Settings) -> Header:
    if header.width < 1 or header.height < 1:
        raise HeaderRefusedError(FailureCode.UNDECODABLE, "The image has no pixels.")
    if max(header.width, header.height) > settings.max_side:
        raise HeaderRefusedError(
            FailureCode.TOO_MANY_PIXELS,
            f"The image is {header.width} x {header.height}; a side may have {settings.max_side} pixels.",
        )
    if header.width * header.height > settings.max_pixels:
        raise _too_many(settings)
    return header


def _too_many(settings: Settings) -> HeaderRefusedError:
    return HeaderRefusedError(FailureCode.TOO_MANY_PIXELS, f"The image has more than {settings.max_pixels} pixels.")


def _unreadable(begin: bytes) -> HeaderRefusedError:
    webp = begin[:4] == b"RIFF" and begin[8:12] == b"WEBP"
    avif = begin[4:8] == b"ftyp" and begin[8:12] in (b"avif", b"avis")
    if webp or avif or begin.startswith(SIGNATURES):
        return HeaderRefusedError(FailureCode.UNDECODABLE, "The image header is damaged.")
    return HeaderRefusedError(
        FailureCode.UNSUPPORTED_FORMAT, f"Send one of {', '.join(sorted(set(FORMATS.values())))}."
    )
