"""Which images do tests send? Small real ones, made on the spot in any format and mode."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
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


def texture(seed: int, height: int = 240, width: int = 320) -> npt.NDArray[Any]:
    """Smooth colours under noise, (height, width, 3): something that forgeries leave traces in."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return np.asarray(np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255), np.uint8)
