"""How are the detector's results read?

As attributes; by name, as in a mapping (`result["score"]`); or unpacked in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any


class Record:
    """Gives a dataclass access by field name and unpacking."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str) or not hasattr(self, name):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
