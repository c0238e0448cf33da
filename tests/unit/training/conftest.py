"""Data that is quick to learn, eight pictures, four with a noisy square, and photos to forge."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import texture

SEED = 7


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight pictures, four with a noisy square; the same eight train and validate, so that fitting them shows."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for number in range(8):
        rng = np.random.default_rng((SEED, number))
        pixels = np.full((128, 128, 3), 120, np.uint8) + rng.integers(0, 8, (128, 128, 1), dtype=np.uint8)
        mask = np.zeros((128, 128), np.uint8)
        fake = number % 2 == 1
        if fake:
            left, top = (int(v) for v in rng.integers(8, 64, 2))
            mask[top : top + 48, left : left + 48] = 255
            pixels[mask > 0] = rng.integers(0, 255, (int((mask > 0).sum()), 3), dtype=np.uint8)
            Image.fromarray(mask).save(folder / f"m{number}.png")
        Image.fromarray(pixels).save(folder / f"i{number}.png")
        row = {"image": f"i{number}.png", "mask": f"m{number}.png" if fake else None, "domain": "nature"}
        label = {"label": "fake" if fake else "real", "operation": "splice" if fake else "none"}
        rows += [{"id": f"{split}{number}", "split": split, **row, **label} for split in ("train", "validation")]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six authentic pictures and a scanned page with one word."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for number in range(6):
        Image.fromarray(texture(number)).save(folder / f"p{number}.png")
        rows.append({"id": f"p{number}", "image": f"p{number}.png", "label": "real", "domain": "nature"})
    words = [{"type": "WORD", "text": "12,95", "box": {"Left": 0.4, "Top": 0.4, "Width": 0.2, "Height": 0.1}}]
    page = np.full((400, 300, 3), 235, np.uint8)
    page[165:195, 125:175] = 30
    Image.fromarray(page).save(folder / "page.png")
    (folder / "page.json").write_text(json.dumps(words))
    rows.append({"id": "page", "image": "page.png", "label": "real", "domain": "document", "ocr": "page.json"})
    (folder / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder
