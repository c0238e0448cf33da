"""Where might a face be, and how is one blended in without a second face?

No face detector ships with the project, so regions are found by skin colour and shape alone. That is crude: it finds
some faces and some hands. The blend follows the idea of self-blended images: the region is replaced by a slightly
moved, recoloured and resampled copy of itself, which leaves exactly the seams that a face swap leaves.
"""

import cv2
import numpy as np

from worker.defakerone.training.forgery.blending import Alpha, composite, footprint
from worker.defakerone.training.forgery.journey import Mask, random_jpeg
from worker.defakerone.training.forgery.operations import Edit
from worker.defakerone.training.forgery.photos import Pixels


def find_faces(pixels: Pixels) -> list[tuple[float, float, float, float, float]]:
    """List face-like ellipses (centre x, centre y, half width, half height, degrees), largest first."""
    height, width = pixels.shape[:2]
    zoom = 160 / max(height, width)
    small = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)
    skin = cv2.inRange(luma, np.array([50, 137, 80]), np.array([240, 172, 125]))
    skin = cv2.morphologyEx(skin, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(skin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in sorted(contours, key=cv2.contourArea, reverse=True)[:4]:
        area = cv2.contourArea(contour)
        if len(contour) < 5 or not 0.004 < area / skin.size < 0.3:
            continue
        (x, y), (minor, major), angle = cv2.fitEllipse(contour)
        filled = area / max(1.0, np.pi * minor * major / 4)
        upright = angle < 40 or angle > 140
        if upright and 1.05 < major / max(minor, 1) < 2.0 and 0.75 < filled < 1.25:
            found.append((x / zoom, y / zoom, minor / 2 / zoom, major / 2 / zoom, angle))
    return found


def _oval(shape: tuple[int, ...], face: tuple[float, float, float, float, float], share: float) -> Mask:
    x, y, half_width, half_height, angle = face
    mask = np.zeros(shape[:2], np.uint8)
    axes = max(3, int(half_width * share)), max(3, int(half_height * share))
    cv2.ellipse(mask, (int(x), int(y)), axes, angle, 0, 360, 255, -1)
    return mask


def blend_face(rng: np.random.Generator, pixels: Pixels) -> Edit | None:
    """Blend a moved and recoloured copy of a face into its own place; None where no face is found."""
    faces = find_faces(pixels)
    if not faces:
        return None
    face = faces[int(rng.integers(len(faces)))]
    mask = _oval(pixels.shape, face, float(rng.uniform(0.65, 1.0)))
    reach = face[2] * 0.06 + 1
    scale, turn = 1 + rng.normal(0, 0.04), rng.normal(0, 2.0)
    matrix = cv2.getRotationMatrix2D((face[0], face[1]), turn, scale)
    matrix = matrix + np.array([[0.0, 0.0, rng.uniform(-reach, reach)], [0.0, 0.0, rng.uniform(-reach, reach)]])
    size = pixels.shape[1], pixels.shape[0]
    changed = cv2.warpAffine(pixels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    tone = np.array([rng.uniform(0.9, 1.1) for _ in range(3)], np.float32)
    changed = np.clip(changed * tone + rng.uniform(-10, 10), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        changed = random_jpeg(rng, changed, 40, 95)
    soft: Alpha = cv2.GaussianBlur(
        (mask / 255).astype(np.float32), (0, 0), float(rng.uniform(1, max(1.5, face[2] * 0.12)))
    )
    return Edit(composite(pixels, changed, soft), footprint(soft))
