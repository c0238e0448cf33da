"""Which images do tests send? Small real ones, made on the spot in any format and mode."""

import io
from typing import Any

from PIL import Image


def encode(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def gradient(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Something with structure, cheap to make."""
    across = Image.linear_gradient("L").resize((width, height))
    down = across.rotate(90).resize((width, height))
    return Image.merge("RGB", (across, down, across)).convert(mode)


def jpeg(width: int = 64, height: int = 48, **options: Any) -> bytes:
    """A JPEG file."""
    return encode(gradient(width, height), "JPEG", **options)


def png(width: int = 64, height: int = 48, **options: Any) -> bytes:
    """A PNG file."""
    return encode(gradient(width, height), "PNG", **options)
