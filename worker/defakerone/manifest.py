"""Which images does a job read, and what is known of each?

A manifest is a JSONL file, one object a line, whose `image` and `mask` paths are relative to the manifest's folder.
`forge` and `export-feedback` write it; `train`, `study` and `evaluate` read it. Fields that this module does not know
survive a round trip. The file says `real|fake`, everything else in Assay says `authentic|fake`: the two meet here only.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from worker.defakerone.replacing import replacing

Label = Literal["authentic", "fake"]
Domain = Literal["nature", "document", "deepfake", "aigc"]

DOMAINS: tuple[Domain, ...] = get_args(Domain)
LABEL_OF_WORD: Mapping[str, Label] = {"real": "authentic", "fake": "fake"}
WORD_OF_LABEL: Mapping[Label, str] = {label: word for word, label in LABEL_OF_WORD.items()}

# An error lists this many problems; a manifest that is wrong as a whole should not print a screen a line.
PROBLEMS_SHOWN = 10


class ManifestError(ValueError):
    """Something is wrong with a manifest or a file that it names; `path` is that file."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class MalformedManifestError(ManifestError):
    """A line is not JSON, lacks a field, or holds a value that the format does not know."""


class MissingFileError(ManifestError):
    """An image or a mask that the manifest names is not there."""


class MaskMismatchError(ManifestError):
    """A mask has another size than its image, marks nothing, or contradicts its label."""


class CorruptImageError(ManifestError):
    """An image or a mask cannot be decoded, or is not the file that the manifest describes."""


class ManifestWriteError(ManifestError):
    """A manifest could not be written; the file that was there before, if any, is untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a manifest.

    `width` and `height` are those of the stored pixel grid, before EXIF orientation; `mask_fraction` is manipulated
    pixels over all pixels. `group` names a scene that several images share: a group is never split. `root` is the
    manifest's folder.
    """

    id: str
    image: str
    label: Label
    domain: Domain
    root: Path
    mask: str | None = None
    operation: str = "none"
    dataset: str | None = None
    group: str | None = None
    split: str | None = None
    source_repo: str | None = None
    licence: str | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    mask_fraction: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_path(self) -> Path:
        """Where the image lies."""
        return self.root / self.image

    @property
    def mask_path(self) -> Path | None:
        """Where the mask lies; None where there is none."""
        return None if self.mask is None else self.root / self.mask

    @property
    def is_fake(self) -> bool:
        """Whether the whole image counts as manipulated: the positive class of every metric."""
        return self.label == "fake"

    @property
    def scene(self) -> str:
        """The unit that must not be split across training and validation, nor across bootstrap draws."""
        return self.group if self.group is not None else f"id:{self.id}"

    @property
    def source(self) -> str:
        """The data set that the image belongs to: its name, else its repository, else `unnamed`."""
        return self.dataset or self.source_repo or "unnamed"


# The order is that in which fields are written. `root` and `extra` are no fields of the file.
FIELDS: tuple[str, ...] = (
    "id", "image", "mask", "label", "domain", "operation", "split", "dataset", "group", "source_repo", "licence",
    "width", "height", "sha256", "mask_fraction",
)  # fmt: skip
REQUIRED: tuple[str, ...] = ("id", "image", "label", "domain")


def read_manifest(path: Path) -> list[Entry]:
    """Read and check every line of the manifest at `path` (or `path/manifest.jsonl`, if `path` is a folder).

    Raises MissingFileError where there is no manifest and MalformedManifestError with the numbers of the wrong lines.
    Neither images nor masks are opened: `check_files` (in `samples`) does that.
    """
    path = path / "manifest.jsonl" if path.is_dir() else path
    entries: list[Entry] = []
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            entries.append(parse_entry(line, path.parent))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    problems += _duplicates(entries)
    if not entries and not problems:
        problems.append("holds no entry; a manifest needs one JSON object a line")
    if problems:
        raise MalformedManifestError(path, _first(problems))
    return entries


def parse_entry(line: str, root: Path) -> Entry:
    """Read one line; raises ValueError saying what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise ValueError(f"is a JSON {type(row).__name__}, not an object")  # noqa: TRY004 - one kind of error a line
    if missing := [name for name in REQUIRED if row.get(name) is None]:
        raise ValueError(f"lacks {', '.join(missing)}")
    known = {name: CHECKS[name](name, row[name]) for name in FIELDS if row.get(name) is not None}
    known.setdefault("operation", "none" if known["label"] == "authentic" else "unspecified")
    return Entry(root=root, extra={name: value for name, value in row.items() if name not in FIELDS}, **known)


def write_manifest(path: Path, entries: Iterable[Entry]) -> int:
    """Write `entries` to `path` as a whole or not at all, and say how many there were.

    The lines go to a temporary file beside `path` that takes its place once it is on disk, so that a full disk or a
    kill leaves what was there before. Raises ManifestWriteError.
    """
    lines = 0
    try:
        with replacing(path) as file:
            for entry in entries:
                file.write(format_entry(entry) + "\n")
                lines += 1
    except OSError as error:
        raise ManifestWriteError(path, f"cannot be written: {error.strerror or error}") from error
    return lines


def format_entry(entry: Entry) -> str:
    """Write one line of a manifest, without its line break; fields that are None are left out, but for `mask`."""
    row: dict[str, Any] = {name: getattr(entry, name) for name in FIELDS}
    row["label"] = WORD_OF_LABEL[entry.label]
    row = {name: value for name, value in row.items() if value is not None or name == "mask"}
    return json.dumps({**row, **entry.extra}, ensure_ascii=False, allow_nan=False)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except FileNotFoundError:
        raise MissingFileError(path, "there is no such manifest") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedManifestError(path, f"cannot be read as UTF-8 text ({error})") from error


def _duplicates(entries: list[Entry]) -> list[str]:
    counts = Counter(entry.id for entry in entries)
    return [f"the id {name!r} occurs {count} times" for name, count in counts.items() if count > 1]


def _first(problems: list[str]) -> str:
    more = len(problems) - PROBLEMS_SHOWN
    return "; ".join(problems[:PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, not {value!r}")
    return value


def _size(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of pixels, not {value!r}")
    return value


def _fraction(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value!r}")
    return float(value)


def _label(name: str, value: object) -> Label:
    if not isinstance(value, str) or value not in LABEL_OF_WORD:
        raise ValueError(f"{name} must be one of {', '.join(LABEL_OF_WORD)}, not {value!r}")
    return LABEL_OF_WORD[value]


def _domain(name: str, value: object) -> str:
    if value not in DOMAINS:
        raise ValueError(f"{name} must be one of {', '.join(DOMAINS)}, not {value!r}")
    return str(value)


def _digest(name: str, value: object) -> str:
    text = _text(name, value).lower()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{name} must be 64 hexadecimal digits, not {value!r}")
    return text


CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    **dict.fromkeys(FIELDS, _text),
    "label": _label,
    "domain": _domain,
    "width": _size,
    "height": _size,
    "sha256": _digest,
    "mask_fraction": _fraction,
}
