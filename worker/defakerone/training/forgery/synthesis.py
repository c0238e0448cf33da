"""How does one seed become one training picture, forged or authentic?

Scene, first compression, one forgery (or none), the platform's journey. Picture and mask depend on the seed and the
index alone, never on how many processes draw or in which order.
"""

from dataclasses import dataclass, field

import numpy as np

from worker.defakerone.manifest import Domain
from worker.defakerone.training.forgery.documents import alter
from worker.defakerone.training.forgery.faces import blend_face
from worker.defakerone.training.forgery.journey import Mask, Matrix, random_jpeg, travel
from worker.defakerone.training.forgery.operations import Edit, copy_move, retouch, splice
from worker.defakerone.training.forgery.photos import PhotoLibrary, Pixels
from worker.defakerone.training.forgery.removal import removal
from worker.defakerone.training.forgery.resynthesis import local_resynthesis, whole_resynthesis
from worker.defakerone.training.forgery.scenes import Scene, draw_scene, pick_size

NATURE = ("splice", "copy-move", "removal", "resynthesis", "retouch")


@dataclass(frozen=True)
class Recipe:
    """How often each domain and operation is drawn, and how large pictures are (long side in pixels)."""

    authentic: float = 0.4
    domains: tuple[tuple[Domain, float], ...] = (("nature", 0.62), ("document", 0.2), ("aigc", 0.1), ("deepfake", 0.08))
    nature: tuple[float, ...] = (0.3, 0.34, 0.16, 0.1, 0.1)
    smallest: int = 256
    largest: int = 900


@dataclass(frozen=True)
class Sample:
    """One picture: RGB pixels, exact mask, and what was done to which photos."""

    pixels: Pixels
    mask: Mask
    fake: bool
    domain: Domain
    operation: str
    photo_ids: tuple[str, ...]
    sources: tuple[Matrix, ...] = field(default=(), repr=False)
    masked: bool = True  # whether the mask is known: a manifest may only say that a picture is fake


class Synthesizer:
    """Draws samples from a library of authentic photos."""

    def __init__(self, library: PhotoLibrary, seed: int, recipe: Recipe | None = None) -> None:
        """Keep the library and the recipe; nothing is drawn yet."""
        self.library, self.seed, self.recipe = library, seed, recipe or Recipe()

    def draw(self, index: int) -> Sample:
        """Draw sample number `index` of this seed."""
        rng = np.random.default_rng((self.seed, index))
        names = [name for name, _ in self.recipe.domains]
        domain = names[int(rng.choice(len(names), p=_shares(self.recipe.domains)))]
        scene = self._scene(rng, "document" if domain == "document" else "nature")
        if rng.random() < self.recipe.authentic:
            return self._finish(rng, scene, None, domain, "none", ())
        return self._forge(rng, scene, domain)

    def _scene(self, rng: np.random.Generator, base: str) -> Scene:
        size = pick_size(rng, self.recipe.smallest, self.recipe.largest)
        scene = draw_scene(rng, self.library, base, size)
        history = rng.random()
        if history < 0.65:
            return Scene(random_jpeg(rng, scene.pixels, 55, 100), scene.photo_id, scene.words)
        return scene

    def _forge(self, rng: np.random.Generator, scene: Scene, domain: Domain) -> Sample:
        if domain == "document":
            altered = alter(rng, scene)
            if altered is None:
                return self._finish(rng, scene, None, domain, "none", ())
            return self._finish(rng, scene, altered[0], domain, altered[1], ())
        if domain == "aigc":
            return self._finish(rng, scene, whole_resynthesis(rng, scene.pixels), domain, "whole-resynthesis", ())
        if domain == "deepfake":
            blended = blend_face(rng, scene.pixels)
            if blended is not None:
                return self._finish(rng, scene, blended, domain, "face-blend", ())
        return self._forge_nature(rng, scene)

    def _forge_nature(self, rng: np.random.Generator, scene: Scene) -> Sample:
        weights = np.array(self.recipe.nature)
        operation = NATURE[int(rng.choice(len(NATURE), p=weights / weights.sum()))]
        if operation == "splice":
            height, width = scene.pixels.shape[:2]
            donor = draw_scene(rng, self.library, "nature", (width, height))
            edit = splice(rng, scene.pixels, donor.pixels)
            return self._finish(rng, scene, edit, "nature", operation, (donor.photo_id,))
        act = {"copy-move": copy_move, "removal": removal, "resynthesis": local_resynthesis, "retouch": retouch}
        return self._finish(rng, scene, act[operation](rng, scene.pixels), "nature", operation, ())

    def _finish(
        self,
        rng: np.random.Generator,
        scene: Scene,
        edit: Edit | None,
        domain: Domain,
        operation: str,
        more: tuple[str, ...],
    ) -> Sample:
        start = edit or Edit(scene.pixels, np.zeros(scene.pixels.shape[:2], np.uint8))
        pixels, mask, path = travel(rng, start.pixels, start.mask)
        fake = bool(mask.any())
        back = np.linalg.inv(path)
        sources = tuple(path @ matrix @ back for matrix in start.sources)
        return Sample(pixels, mask, fake, domain, operation if fake else "none", (scene.photo_id, *more), sources)


def _shares(weights: tuple[tuple[Domain, float], ...]) -> list[float]:
    total = sum(weight for _, weight in weights)
    return [weight / total for _, weight in weights]
