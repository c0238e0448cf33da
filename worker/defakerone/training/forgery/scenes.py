"""What does an authentic picture look like before anybody touches it?

A scene is a window of a photo at some scale: often the whole photo reduced to the size the web shows, sometimes a
crop at native resolution. It may already carry one compression, as nearly every picture does before it is edited.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from worker.defakerone.training.forgery.photos import Photo, PhotoLibrary, Pixels, Word

WEB_SIZES = ((384, 256), (512, 512), (512, 384), (600, 400), (640, 480), (800, 600), (768, 512), (1000, 667))


@dataclass(frozen=True)
class Scene:
    """Authentic pixels cut from one photo, with the words that are whole inside the window (pixel boxes)."""

    pixels: Pixels
    photo_id: str
    words: tuple[tuple[Word, tuple[int, int, int, int]], ...] = ()


def pick_size(rng: np.random.Generator, smallest: int, largest: int) -> tuple[int, int]:
    """Draw a common picture size (width, height), scaled at random and kept within the two long-side limits."""
    width, height = WEB_SIZES[int(rng.integers(len(WEB_SIZES)))]
    if rng.random() < 0.35:
        width, height = height, width
    factor = rng.uniform(0.75, 1.25)
    longest = float(np.clip(max(width, height) * factor, smallest, largest))
    factor = longest / max(width, height)
    return max(64, round(width * factor)), max(64, round(height * factor))


def cut_window(photo: Photo, box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
    """Cut `box` (left, top, width, height in full-resolution pixels) and bring it to `size` (width, height)."""
    left, top, width, height = box
    shrink = width / size[0]
    level = min(int(max(0.0, np.floor(np.log2(max(shrink, 1.0))))), len(photo.levels) - 1)
    pixels, scale = photo.level(level), 0.5**level
    rows = slice(int(top * scale), int(top * scale) + max(1, round(height * scale)))
    columns = slice(int(left * scale), int(left * scale) + max(1, round(width * scale)))
    window = np.ascontiguousarray(pixels[rows, columns])
    if window.shape[1::-1] == size:
        return window
    shrinking = window.shape[1] > size[0]
    resized: Pixels = cv2.resize(window, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
    return resized


def _window(rng: np.random.Generator, photo: Photo, size: tuple[int, int]) -> tuple[float, float, float, float]:
    full_width, full_height = photo.size
    largest = min(full_width / size[0], full_height / size[1])
    smallest = min(1.0, largest)
    mode = rng.random()
    if photo.domain == "document":  # a word must stay legible: near native scale, sometimes the half
        scale = float(np.clip(rng.uniform(0.9, 2.2), smallest, largest))
    elif mode < 0.55:
        scale = largest * rng.uniform(0.8, 1.0)
    elif mode < 0.8:
        scale = smallest
    else:
        scale = float(np.exp(rng.uniform(np.log(smallest), np.log(max(largest, smallest * 1.001)))))
    width, height = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, max(0.0, full_width - width)), rng.uniform(0, max(0.0, full_height - height))
    return float(left), float(top), float(width), float(height)


def _visible_words(
    photo: Photo, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[tuple[Word, tuple[int, int, int, int]], ...]:
    full_width, full_height = photo.size
    left, top, width, height = box
    zoom_x, zoom_y = size[0] / width, size[1] / height
    found = []
    for word in photo.words:
        x, y = (word.box[0] * full_width - left) * zoom_x, (word.box[1] * full_height - top) * zoom_y
        w, h = word.box[2] * full_width * zoom_x, word.box[3] * full_height * zoom_y
        if x >= 1 and y >= 1 and x + w < size[0] - 1 and y + h < size[1] - 1 and w >= 6 and h >= 6:
            found.append((word, (int(x), int(y), int(np.ceil(w)), int(np.ceil(h)))))
    return tuple(found)


def cut_scene(rng: np.random.Generator, photo: Photo, size: tuple[int, int]) -> Scene:
    """Cut one scene of `size` (width, height) from a photo, mirrored half of the time unless it holds text."""
    width, height = photo.size
    limit = max(size[0] / width, size[1] / height)
    if limit > 1.3:  # never enlarge a small photo by much: it would be blur, not a scene
        size = max(64, int(size[0] / limit * 1.3)), max(64, int(size[1] / limit * 1.3))
    box = _window(rng, photo, size)
    pixels = cut_window(photo, box, size)
    words = _visible_words(photo, box, size)
    if photo.domain != "document" and rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    return Scene(pixels, photo.id, words)


def draw_scene(rng: np.random.Generator, library: PhotoLibrary, domain: str, size: tuple[int, int]) -> Scene:
    """Draw a photo of the domain and cut a scene from it."""
    return cut_scene(rng, library.draw(rng, domain), size)
