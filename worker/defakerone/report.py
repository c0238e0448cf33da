"""How does one look through a whole folder's results?

One HTML file that holds everything, pictures included, and works from a mail attachment: the most suspicious first,
each with its overlay (hold the pointer on it to see the untouched image), filters by label, and the files that failed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from PIL import Image

from worker.defakerone.files import Screened
from worker.defakerone.pictures import encode_jpeg, headline, overlay
from worker.defakerone.verdict import AUTHENTIC, FAKE, INCONCLUSIVE, Detection

_THUMBNAIL: Final = 480
_TEMPLATE: Final = "contact_sheet.html"
_FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Card:
    """One file on the sheet, ready to be written."""

    label: str
    score: float
    html: str


def make_card(result: Screened) -> Card:
    """Draw one file's card; meant for the threads that finish files."""
    name = escape(str(result.source.name))
    if result.detection is None or result.image is None:
        return Card(_FAILED, -1.0, f'<li class="card {_FAILED}"><h2>{name}</h2><p>{escape(str(result.error))}</p></li>')
    detection = result.detection
    found = overlay(result.image, detection, _THUMBNAIL)
    plain = result.image.resize(found.size)
    notes = "".join(f"<li>{escape(reason.replace('_', ' '))}</li>" for reason in detection.reasons)
    return Card(
        detection.label,
        detection.score,
        f'<li class="card {detection.label}">'
        f'<div class="picture" tabindex="0"><img class="found" alt="what was found in {name}" src="{_inline(found)}">'
        f'<img class="plain" alt="{name}, untouched" src="{_inline(plain)}"></div>'
        f'<h2>{name}</h2><p><b class="label">{detection.label}</b> {escape(headline(detection))}</p>'
        f'<div class="bar"><i style="width:{detection.score:.1%}"></i></div>'
        f'<p class="extent">{_regions(detection)}</p>'
        f'<ul class="notes">{notes}</ul></li>',
    )


def _regions(detection: Detection) -> str:
    count = len(detection.regions)
    return f"extent {detection.extent}, {count} region{'' if count == 1 else 's'}" if count else "no region"


def write_report(path: Path, cards: list[Card], weights: str) -> None:
    """Write the sheet, most suspicious first, failures last."""
    ordered = sorted(cards, key=lambda card: -card.score)
    counts = {label: sum(card.label == label for card in cards) for label in (FAKE, INCONCLUSIVE, AUTHENTIC, _FAILED)}
    buttons = "".join(
        f'<button data-show="{label}" aria-pressed="true">{label} <b>{count}</b></button>'
        for label, count in counts.items()
        if count
    )
    template = Template(files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    page = template.substitute(
        count=len(cards), weights=escape(weights), buttons=buttons, cards="\n".join(card.html for card in ordered)
    )
    path.write_text(page, encoding="utf-8")


def _inline(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image, quality=80)).decode()
