"""What a screen shows of each accepted file: upright, whole, and as bright as it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api import display
from tests.corpus import SCREENED, Case
from tests.corpus_files import pixels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SEEN = [case for case in SCREENED if not case.huge]
PROGRAMS = ("overlay_drawing", "rendition_drawing", "correction_reading")


@pytest.mark.parametrize("case", SEEN, ids=[case.name for case in SEEN])
def test_what_is_shown_is_what_was_screened(case: Case, tmp_path: Path) -> None:
    assert case.seen is not None
    (tmp_path / "image").write_bytes(case.make())
    seen = case.seen()
    shown = display.upright(tmp_path / "image")
    assert (shown.mode, shown.size) == ("RGB", (seen.shape[1], seen.shape[0]))
    # A little more than the detector's own tolerance: Pillow's quick conversions are good enough for the eye.
    assert np.abs(np.asarray(shown).astype(int) - seen.astype(int)).mean() <= case.tolerance + 2


def test_a_picture_is_scaled_to_a_side_and_keeps_its_shape(tmp_path: Path) -> None:
    large = Image.fromarray(pixels()).resize((900, 300))
    for name, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("GIF", {})):
        large.save(tmp_path / "image", name, **options)
        shown = display.upright(tmp_path / "image", 90)
        assert (shown.mode, shown.size) == ("RGB", (90, 30))
        expected = np.asarray(large.resize((90, 30), Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(shown).astype(int) - expected).mean() < 8, name


def test_the_drawing_programs_load_pillow_and_nothing_of_the_service() -> None:
    """One runs for each picture: what it loads is waited for, and lies in memory that the picture is to have."""
    imports = ", ".join(f"api.{name}" for name in PROGRAMS)
    code = f"import sys, json, {imports}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    answer = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(answer.stdout))
    assert "PIL" in loaded
    assert not {"fastapi", "starlette", "sqlalchemy", "pydantic", "structlog", "screening", "torch"} & loaded
