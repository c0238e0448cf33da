"""In which words is a picture asked about, and how does an answer begin?

Ten question templates (arXiv 2605.14091, dynamic VQA), each with one affirmative and one negative sentence. A
sentence starts with one of the eight words, and over the ten all eight occur, so that the restricted softmax of
detection is trained. The wording carries nothing of the picture's content. Templates are data with a version, in
templates.json.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from worker.defakerone.prompt import AFFIRMATIVE, NEGATIVE
from worker.defakerone.tokenizer import SEGMENTATION


@dataclass(frozen=True, slots=True)
class Template:
    """One question with its two answers."""

    question: str
    positive: str
    negative: str

    def answer(self, fake: bool, marker: bool) -> str:
        """Give the sentence for a label; `marker` appends [SEG] to the affirmative one, as stage 3 does."""
        sentence = self.positive if fake else self.negative
        return f"{sentence} {SEGMENTATION}" if fake and marker else sentence


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """All templates of one version."""

    version: int
    templates: tuple[Template, ...]


@lru_cache
def load_templates() -> TemplateSet:
    """Read and check templates.json; raises ValueError where an answer does not begin with one of the eight words."""
    data = json.loads(files(__package__).joinpath("templates.json").read_text(encoding="utf-8"))
    templates = tuple(Template(**row) for row in data["templates"])
    for template in templates:
        if _opener(template.positive) not in AFFIRMATIVE or _opener(template.negative) not in NEGATIVE:
            raise ValueError(f"templates.json: an answer to {template.question!r} opens with none of the eight words")
    return TemplateSet(data["version"], templates)


def _opener(sentence: str) -> str:
    return sentence.split()[0].rstrip(",")
